#include "submit/proc.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <unistd.h>

#include <array>
#include <charconv>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>
#include <string>

namespace souk {
namespace {

namespace fs = std::filesystem;

std::optional<int> number(const std::string& text) {
  int value = 0;
  const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (failure != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return value;
}

struct Stat {
  char state = '?';
  int parent = 0;
};

std::optional<Stat> read_stat(int pid) {
  std::ifstream in("/proc/" + std::to_string(pid) + "/stat");
  std::string line;
  if (!std::getline(in, line)) return std::nullopt;
  const auto name_end = line.rfind(')');  // the name may hold anything, parentheses too
  if (name_end == std::string::npos) return std::nullopt;
  std::istringstream rest(line.substr(name_end + 1));
  Stat stat;
  if (!(rest >> stat.state >> stat.parent)) return std::nullopt;
  return stat;
}

/// Inodes of the sockets that listen on `port` at 127.0.0.1 or at every address.
std::set<std::string> listening(std::uint16_t port) {
  std::set<std::string> inodes;
  std::array<char, 9> loopback_text{};
  std::snprintf(loopback_text.data(), loopback_text.size(), "%08X", htonl(INADDR_LOOPBACK));  // as the kernel prints it: the word in memory order
  const std::string loopback = loopback_text.data();
  for (const char* table : {"/proc/self/net/tcp", "/proc/self/net/tcp6"}) {
    std::ifstream in(table);
    std::string line;
    std::getline(in, line);  // the heading
    while (std::getline(in, line)) {
      std::istringstream fields(line);
      std::string slot, local, remote, state, queues, timer, retransmits, uid, timeout, inode;
      if (!(fields >> slot >> local >> remote >> state >> queues >> timer >> retransmits >> uid >> timeout >> inode)) continue;
      if (state != "0A") continue;  // TCP_LISTEN
      const auto colon = local.rfind(':');
      if (colon == std::string::npos || local.size() - colon != 5 || std::stoul(local.substr(colon + 1), nullptr, 16) != port) continue;
      const std::string address = local.substr(0, colon);
      if (address != loopback && address.find_first_not_of('0') != std::string::npos) continue;
      inodes.insert(inode);
    }
  }
  return inodes;
}

}  // namespace

std::optional<std::uint64_t> resident_bytes(int pid) {
  const auto stat = read_stat(pid);
  if (!stat || stat->state == 'Z' || stat->state == 'X') return std::nullopt;
  std::ifstream in("/proc/" + std::to_string(pid) + "/statm");
  std::uint64_t size = 0, resident = 0;
  if (!(in >> size >> resident)) return std::nullopt;
  return resident * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
}

std::vector<int> children() {
  std::vector<int> all;
  const int self = ::getpid();
  std::error_code ignored;
  for (auto entry = fs::directory_iterator("/proc", ignored); !ignored && entry != fs::directory_iterator(); entry.increment(ignored)) {
    const auto pid = number(entry->path().filename().string());
    if (!pid) continue;
    const auto stat = read_stat(*pid);
    if (stat && stat->parent == self) all.push_back(*pid);
  }
  return all;
}

Listener listener(int pid, std::uint16_t port) {
  const auto inodes = listening(port);
  if (inodes.empty()) return Listener::nobody;
  std::error_code ignored;
  bool lives = false;  // what is being killed has no files any more, and yet what it listened on may be there for a moment
  for (auto entry = fs::directory_iterator("/proc/" + std::to_string(pid) + "/fd", ignored); !ignored && entry != fs::directory_iterator(); entry.increment(ignored)) {
    lives = true;
    std::error_code gone;
    const std::string target = fs::read_symlink(entry->path(), gone).string();
    if (target.starts_with("socket:[") && inodes.contains(target.substr(8, target.size() - 9))) return Listener::ours;
  }
  return lives ? Listener::other : Listener::nobody;
}

}  // namespace souk
