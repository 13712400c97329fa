// Images as podman tells of them and hands them out. That podman itself is used well is another test's: tests/system/stories/image_test.py.
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "worker/images.h"

namespace souk {
namespace {

namespace fs = std::filesystem;

class Folder {
 public:
  Folder() {
    char name[] = "/tmp/souk-images-XXXXXX";
    path = ::mkdtemp(name);
  }
  ~Folder() { fs::remove_all(path); }
  fs::path path;
};

void write(const fs::path& file, const char* text, mode_t mode) {
  fs::create_directories(file.parent_path());
  std::ofstream(file) << text;
  ::chmod(file.c_str(), mode);
}
std::string text_of(const fs::path& file) {
  std::ifstream in(file);
  return {std::istreambuf_iterator<char>(in), {}};
}
mode_t mode_of(const fs::path& file) {
  struct stat status{};
  return ::lstat(file.c_str(), &status) == 0 ? status.st_mode & 07777 : 0;
}

const std::string kId(64, 'a');

TEST(Images, AreReadFromWhatPodmanTells) {
  const auto read = read_inspection("[{\"Id\": \"" + kId + R"(", "Config": {"Env": ["PATH=/opt/bin:/bin", "EMPTY=", "A=b=c", "no value", "=x", 7, "nul=\u0000"], "Cmd": ["sh"]}}])");
  ASSERT_TRUE(read) << read.error().text();
  EXPECT_EQ(read.value().first, kId);
  const std::vector<std::pair<std::string, std::string>> env{{"PATH", "/opt/bin:/bin"}, {"EMPTY", ""}, {"A", "b=c"}};
  EXPECT_EQ(read.value().second, env);
  EXPECT_TRUE(read_inspection("[{\"Id\": \"" + kId + "\"}]")) << "an image that says nothing more";
  EXPECT_TRUE(read_inspection("[{\"Id\": \"" + kId + R"(", "Config": {"Env": null}}])"));
}

TEST(Images, AreRefusedWhenThatIsSomethingElse) {
  for (const std::string& text : {std::string(), std::string("[]"), std::string("{}"), std::string("[1]"), std::string("no JSON"), std::string("[{}]"), std::string("[{\"Id\": 1}]"), std::string("[{\"Id\": \"../../etc\"}]"),
                                  "[{\"Id\": \"" + kId + "a\"}]", "[{\"Id\": \"" + kId.substr(1) + "/\"}]", "[{\"Id\": \"" + kId + "\"}, {}]"})
    EXPECT_FALSE(read_inspection(text)) << text;
}

TEST(Images, HaveABoundedEnvironment) {
  std::string many;
  for (int i = 0; i < 1000; ++i) many += (i > 0 ? "," : "") + ("\"V" + std::to_string(i) + "=x\"");
  EXPECT_EQ(read_inspection("[{\"Id\": \"" + kId + "\", \"Config\": {\"Env\": [" + many + "]}}]").value().second.size(), 256u);
  EXPECT_EQ(read_inspection("[{\"Id\": \"" + kId + "\", \"Config\": {\"Env\": [\"A=1\", \"B=" + std::string(1 << 20, 'x') + "\", \"C=2\"]}}]").value().second.size(), 1u);
}

TEST(Images, BecomeSystemsOfPlainReadableFiles) {
  Folder folder;
  const fs::path root = folder.path / "root", outside = folder.path / "outside";
  write(outside, "mine", 0600);
  write(root / "bin/tool", "x", 06711);
  write(root / "opt/secret", "x", 0600);
  write(root / "var/tmp/left", "x", 0644);
  fs::create_directory(root / "shut");
  ::chmod((root / "shut").c_str(), 0);
  ::mkfifo((root / "pipe").c_str(), 0666);
  fs::create_symlink(outside, root / "link");
  fs::create_directory(root / "etc");
  for (const char* name : {"passwd", "hosts"}) fs::create_symlink(outside, root / "etc" / name);
  fs::create_directory(root / "etc/group");
  const auto made = make_system(root);
  ASSERT_TRUE(made) << made.error().text();
  EXPECT_EQ(mode_of(root / "bin/tool"), 0755u) << "runs, and sets no user";
  EXPECT_EQ(mode_of(root / "opt/secret"), 0644u);
  EXPECT_EQ(mode_of(root / "shut"), 0755u);
  EXPECT_FALSE(fs::exists(fs::symlink_status(root / "pipe")));
  for (const char* name : {"passwd", "group", "nsswitch.conf", "hosts", "resolv.conf"}) EXPECT_TRUE(fs::is_regular_file(fs::symlink_status(root / "etc" / name))) << name;
  EXPECT_EQ(fs::read_symlink(root / "var/tmp"), "/tmp");
  EXPECT_EQ(text_of(outside), "mine");
  EXPECT_EQ(mode_of(outside), 0600u) << "what a link leads to is nobody's business";
}

TEST(Images, DoNotLeadOutsideByLinksInPlaceOfFolders) {
  Folder folder;
  const fs::path root = folder.path / "root", outside = folder.path / "outside";
  write(outside / "passwd", "mine", 0600);
  write(outside / "tmp/file", "mine", 0600);
  fs::create_directory(root);
  for (const char* name : {"etc", "var"}) fs::create_symlink(outside, root / name);
  ASSERT_TRUE(make_system(root));
  EXPECT_EQ(text_of(outside / "passwd"), "mine");
  EXPECT_EQ(text_of(outside / "tmp/file"), "mine");
  EXPECT_EQ(text_of(root / "etc/passwd"), "");
  EXPECT_FALSE(make_system(folder.path / "not-there"));
}

TEST(Images, WithoutNamesAreNone) {
  Folder folder;
  const auto none = get_images({{}, folder.path / "images", false, false}, [](const std::string&) {});
  ASSERT_TRUE(none);
  EXPECT_TRUE(none.value().empty());
  EXPECT_EQ(mode_of(folder.path / "images"), 0700u);
}

}  // namespace
}  // namespace souk
