// What a manager, or who claims to be it, can tell a worker, in any order, between ends of attempts and breaks of the link.
// Input: records of a letter, a byte for the length of a payload, the payload's bytes (a message as on the wire, before base64).
#include <gloox/tag.h>
#include <spdlog/spdlog.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <map>

#include "protocol/payload.h"
#include "protocol/stanza.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/still_link.h"
#include "worker/session.h"

namespace souk {
namespace {

using fuzz::must;
using fuzz::StillLinks;
using worker::Session;

Stanza iq(const std::string& name, std::string_view payload) {
  static std::uint64_t number = 0;
  Stanza stanza = element("iq", {}, {{"type", "set"}, {"from", "manager@grid/souk"}, {"to", "w1@grid/souk"}, {"id", "m" + std::to_string(++number)}});
  child(*stanza, name, ns::task, {}, base64(payload));
  return stanza;
}

/// Each get or set is answered exactly once.
void ask(const std::string& name, std::string_view payload) {
  const Stanza question = iq(name, payload);
  StillLinks::sent(0);
  StillLinks::arrives(0, *question);
  unsigned answers = 0;
  for (const Stanza& stanza : StillLinks::sent(0))
    if (stanza->name() == "iq" && stanza->findAttribute("id") == question->findAttribute("id")) ++answers;
  must(answers == 1, "a question has one answer", name);
}

}  // namespace
}  // namespace souk

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  using namespace souk;
  [[maybe_unused]] static const bool quiet = (spdlog::set_level(spdlog::level::off), true);
  if (size > 8192) return 0;
  auto rest = fuzz::text_of(bytes, size);
  boost::asio::io_context loop;
  Session::Setup setup;
  setup.profile.account.jid = "w1@grid/souk", setup.profile.manager = "manager@grid/souk", setup.profile.room = "market@rooms";
  setup.nick = "w1";
  setup.offer.slots = setup.offer.cpus = 3, setup.offer.memory_bytes = 8ull << 30, setup.offer.gpus = {"Model T"}, setup.offer.resources["license"] = {2, {}};
  setup.offer.os = "linux", setup.offer.arch = "x86_64";
  std::map<int, std::function<void(Outcome)>> running, next;
  std::map<int, std::function<void()>> recalled;
  std::map<int, int> lines;  // by slot: how often something was lined up
  Session session(loop, setup,
                  {[&](int slot, worker::Assignment assignment, worker::Granted, std::function<void(Outcome)> finished) {
                     must(slot >= 0 && slot < 3 && !running.contains(slot), "a slot runs one attempt");
                     must(assignment.command && bool(check(*assignment.command)), "what is started is a command that was checked");
                     running[slot] = std::move(finished);
                   },
                   [&](int slot) { must(running.contains(slot), "only what runs is stopped"); }, [](int) {}, [](int) {},
                   [&](int slot, worker::Assignment assignment, std::function<void(Outcome)> finished, std::function<void()> back) {
                     must(running.contains(slot) && !next.contains(slot), "one attempt is lined up behind one that runs");
                     must(assignment.command && bool(check(*assignment.command)), "what is lined up is a command that was checked");
                     next[slot] = std::move(finished), recalled[slot] = std::move(back), ++lines[slot];
                   },
                   [&](int slot) {
                     must(next.contains(slot), "only what is lined up is recalled");
                     boost::asio::post(loop, [&, slot, line = lines[slot]] {  // that one: it may have begun meanwhile, and another be there
                       if (lines[slot] == line && next.erase(slot) != 0) recalled.at(slot)();
                     });
                   }});
  session.start();
  StillLinks::rises(0);
  for (int steps = 0; !rest.empty() && steps < 200; ++steps) {
    const unsigned char what = fuzz::byte_off(rest);
    const auto payload = [&] {
      const std::size_t length = fuzz::byte_off(rest);
      const auto part = rest.substr(0, length);
      rest.remove_prefix(part.size());
      return part;
    };
    switch (what) {
      case 'h': ask("hello", payload()); break;
      case 'a': ask("assign", payload()); break;
      case 'c': ask("command", payload()); break;
      case 's': ask("stop", payload()); break;
      case 'x': ask("other", payload()); break;
      case 'f':  // the attempt in that slot ends
        if (const auto at = running.find(fuzz::byte_off(rest) % 3); at != running.end()) {
          const auto finished = std::move(at->second);
          if (auto then = next.extract(at->first)) at->second = std::move(then.mapped());
          else running.erase(at);
          Outcome outcome;
          outcome.exit_code = steps % 3, outcome.out = std::string(steps % 5 == 0 ? 100'000 : 5, 'x'), outcome.out_size = outcome.out.size();
          finished(std::move(outcome));
        }
        break;
      case 'r':  // what it asked is answered with this
      case 'e':
        if (const auto waiting = StillLinks::waiting(0); !waiting.empty()) {
          const bool error = what == 'e';
          Stanza answer = element("iq", {}, {{"type", error ? "error" : "result"}, {"from", "manager@grid/souk"}, {"id", waiting.front()}});
          const auto part = payload();
          if (error) child(child(*answer, "error", {}, {{"type", "cancel"}}), steps % 3 == 0 ? "item-not-found" : steps % 3 == 1 ? "bad-request" : "resource-constraint", ns::stanzas);
          else child(*answer, steps % 2 == 0 ? "report" : "lease", ns::task, {}, base64(part));
          StillLinks::arrives(0, *answer);
        }
        break;
      case 'p': session.pause(); break;
      case 'P': session.resume(); break;
      case 'd': session.drain(); break;
      case 'w': {
        const int slots = fuzz::byte_off(rest) % 4;
        session.allow({slots, slots, slots, slots < 3 ? "at work" : "", 0});
        break;
      }
      case 'l':
        StillLinks::falls(0);
        StillLinks::rises(0);
        break;
      default: break;
    }
    loop.restart();
    loop.poll();
    if (const auto broken = session.agent().broken_invariant()) must(false, "an invariant of the agent", *broken);
  }
  return 0;
}
