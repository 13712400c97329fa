// How a log looks. One entry is one line, whatever it quotes: who can make us write something must not be able to write entries of their own.
#pragma once
#include <cstddef>

namespace souk {

inline constexpr std::size_t kLogLineMax = 8192;  // bytes of what an entry says; the rest is counted

/// For the default logger and all of its sinks: `2026-11-23T18:40:35.123 info what it says`. The first one is that to stderr; where that is systemd's journal, it is
/// `<6>info what it says`: the journal keeps the time by itself, and takes the number for itself, so that `journalctl -p warning` finds what it should.
void set_log_format();

/// stream: the environment's JOURNAL_STREAM (systemd.exec(5)), or null. A program with another stderr than the service it was started by is none of the journal's.
bool is_journal(const char* stream, int fd);

}  // namespace souk
