#include "worker/probe.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <fstream>
#include <sys/stat.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

namespace souk {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;

class Probe : public ::testing::Test {
 protected:
  Probe() {
    std::string name = (fs::temp_directory_path() / "souk-probe-XXXXXX").string();
    folder_ = mkdtemp(name.data());
    fs::create_directories(folder_ / "bin");
    options_.work = folder_;
    options_.path = (folder_ / "bin").string();
  }
  ~Probe() override { fs::remove_all(folder_); }
  void program(const std::string& name, const std::string& text) {
    const fs::path file = folder_ / "bin" / name;
    std::ofstream(file) << "#!/bin/sh\n" << text << "\n";
    chmod(file.c_str(), 0755);
  }
  void file(const fs::path& path, const std::string& text) {
    fs::create_directories((folder_ / "root" / path).parent_path());
    std::ofstream(folder_ / "root" / path) << text;
  }
  fs::path folder_;
  ProbeOptions options_;
};

TEST_F(Probe, FindsOutWhatThisHostOffers) {
  options_.tags = {{"room", "a"}};
  options_.path.clear();
  const Offer offer = probe(options_);
  EXPECT_EQ(offer.os, "linux");
  EXPECT_FALSE(offer.arch.empty());
  EXPECT_FALSE(offer.hostname.empty());
  EXPECT_GE(offer.cpus, 1);
  EXPECT_LE(offer.cpus, static_cast<int>(std::max(1u, std::thread::hardware_concurrency())));
  EXPECT_EQ(offer.slots, offer.cpus);
  EXPECT_GT(offer.memory_bytes, 16u << 20);
  EXPECT_GT(offer.disk_bytes, 0u);
  EXPECT_EQ(offer.version, SOUK_VERSION);
  EXPECT_EQ(offer.tags.at("room"), "a");
}

TEST(OfferedDisk, LeavesSomeToItsOwner) {
  constexpr std::uint64_t kGib = 1 << 30;
  EXPECT_EQ(offered_disk(20 * kGib, 30 * kGib), 18 * kGib);
  EXPECT_EQ(offered_disk(500 * kGib, 1000 * kGib), 450 * kGib);
  EXPECT_EQ(offered_disk(kGib, 1000 * kGib), kGib / 2) << "of little, half";
  EXPECT_EQ(offered_disk(0, kGib), 0u);
}

TEST_F(Probe, TakesTheNumberOfSlotsItIsGiven) {
  options_.slots = 5;
  EXPECT_EQ(probe(options_).slots, 5);
}

TEST_F(Probe, MeasuresSpeedUnlessItIsToldOne) {
  const double measured = probe(options_).speed;
  EXPECT_GE(measured, 0.1);
  EXPECT_LE(measured, 20);
  EXPECT_NEAR(measured * 10, std::round(measured * 10), 1e-9);
  options_.speed = 2.5;
  options_.resources = {{"fpga", {1, {"a"}}}};
  EXPECT_EQ(probe(options_).speed, 2.5);
  EXPECT_EQ(probe(options_).resources, options_.resources);
}

TEST_F(Probe, AsksSoftwareForItsVersion) {
  program("python3", "echo Python 3.11.2");
  program("gcc", "echo 12.2.0");
  program("git", "echo git version 2.39.5");
  program("mpirun", "echo mpirun 4.1.4 >&2");
  EXPECT_EQ(probe(options_).software, (std::map<std::string, std::string>{{"python", "3.11.2"}, {"gcc", "12.2.0"}, {"git", "2.39.5"}, {"mpi", "4.1.4"}}));
}

TEST_F(Probe, OffersSlowSoftwareWithoutVersionAndBrokenSoftwareNotAtAll) {
  program("python3", "sleep 60");
  program("R", "sleep 60 & echo R version 4.2.2; exec >&- 2>&-; sleep 60");
  program("gcc", "echo cannot find 1.2 >&2; exit 127");
  options_.patience = 300ms;
  const auto from = std::chrono::steady_clock::now();
  const auto software = probe(options_).software;
  EXPECT_LT(std::chrono::steady_clock::now() - from, 5s);
  EXPECT_EQ(software, (std::map<std::string, std::string>{{"python", ""}, {"R", ""}}));
  EXPECT_EQ(waitpid(-1, nullptr, WNOHANG), -1) << "a child is left";
}

TEST_F(Probe, ReadsTheVersionOfJavaWithoutStartingIt) {
  fs::create_directories(folder_ / "jdk/bin");
  std::ofstream(folder_ / "jdk/release") << "IMPLEMENTOR=\"Debian\"\nJAVA_VERSION=\"17.0.15\"\n";
  std::ofstream(folder_ / "jdk/bin/java") << "#!/bin/sh\ntouch " << (folder_ / "started").string() << "\n";
  chmod((folder_ / "jdk/bin/java").c_str(), 0755);
  fs::create_symlink(folder_ / "jdk/bin/java", folder_ / "bin/java");
  EXPECT_EQ(probe(options_).software.at("java"), "17.0.15");
  EXPECT_FALSE(fs::exists(folder_ / "started"));
}

TEST_F(Probe, NamesGpusInTheOrderOfTheirNumbers) {
  program("nvidia-smi", "[ \"$1\" = --query-gpu=name ] && printf 'NVIDIA A100\\nNVIDIA T4\\n'");
  EXPECT_EQ(probe(options_).gpus, (std::vector<std::string>{"NVIDIA A100", "NVIDIA T4"}));
  options_.root = folder_ / "root";  // the driver's own files are quicker
  file("proc/driver/nvidia/gpus/0000:81:00.0/information", "Model: \t\t NVIDIA L4\nIRQ: 1\n");
  file("proc/driver/nvidia/gpus/0000:01:00.0/information", "Model: \t\t NVIDIA H100\n");
  EXPECT_EQ(probe(options_).gpus, (std::vector<std::string>{"NVIDIA H100", "NVIDIA L4"}));
}

TEST_F(Probe, CountsAContainersShareNotTheWholeMachine) {
  options_.root = folder_ / "root";
  file("proc/meminfo", "MemTotal:       16384000 kB\nMemFree: 1 kB\n");
  file("proc/cpuinfo", "processor\t: 0\nmodel name\t: Quick CPU 3000\nprocessor\t: 1\nmodel name\t: other\n");
  EXPECT_EQ(probe(options_).memory_bytes, std::uint64_t{16384000} * 1024);
  EXPECT_EQ(probe(options_).cpu_model, "Quick CPU 3000");
  file("proc/self/cgroup", "0::/pod/box\n");
  file("sys/fs/cgroup/pod/memory.max", "1000000\n");
  file("sys/fs/cgroup/pod/box/memory.max", "max\n");
  file("sys/fs/cgroup/pod/cpu.max", "50000 100000\n");
  const Offer offer = probe(options_);
  EXPECT_EQ(offer.memory_bytes, 1000000u);
  EXPECT_EQ(offer.cpus, 1);
}

TEST(TaskEnvironment, IsSmallAndClean) {
  setenv("LC_TIME", "C", 1);
  setenv("SOUK_SECRET", "x", 1);
  unsetenv("LANG");
  const auto env = task_environment();
  const auto value = [&](const std::string& name) {
    for (const auto& [n, v] : env)
      if (n == name) return v;
    return std::string("(none)");
  };
  EXPECT_EQ(value("PATH"), getenv("PATH"));
  EXPECT_EQ(value("LC_TIME"), "C");
  EXPECT_EQ(value("LANG"), "C.UTF-8");
  EXPECT_EQ(value("SOUK_SECRET"), "(none)");
  EXPECT_NE(value("HOME"), "(none)");
}

}  // namespace
}  // namespace souk
