// The raw bytes of an XMPP stream. Input: a byte that says in which pieces they come, the bytes.
#include "protocol/xml_stream.h"

#include <gloox/tag.h>

#include "protocol/stanza.h"
#include "tests/fuzz/fuzz.h"

namespace souk {
namespace {

struct Heard {
  std::vector<std::string> stanzas;
  std::string problem;
  bool closed = false;
};

Heard hear(std::string_view bytes, std::size_t piece, bool restarts) {
  Heard heard;
  XmlStream* stream = nullptr;
  bool restarted = false;
  XmlStream::Handlers handlers;
  handlers.opened = [&](gloox::Tag& header) { heard.stanzas.push_back(header.xml()); };
  handlers.stanza = [&](gloox::Tag& stanza, bool cut) {
    heard.stanzas.push_back((cut ? "cut " : "") + stanza.xml());
    error_in(stanza);
    if (const auto form = form_in(stanza)) fuzz::must(form.value().fields.size() <= 256, "forms are bounded");
    if (restarts && !std::exchange(restarted, true)) stream->restart();
  };
  handlers.closed = [&] { heard.closed = true; };
  XmlStream xml("jabber:client", handlers);
  stream = &xml;
  for (std::size_t at = 0; at < bytes.size(); at += piece)
    if (!xml.feed(bytes.substr(at, piece))) {
      heard.problem = xml.problem();
      fuzz::must(!heard.problem.empty(), "a broken stream says why");
      break;
    }
  return heard;
}

}  // namespace
}  // namespace souk

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  using namespace souk;
  if (size > fuzz::kInputMax) return 0;
  auto rest = fuzz::text_of(bytes, size);
  const unsigned how = fuzz::byte_off(rest);
  const Heard whole = hear(rest, std::max<std::size_t>(1, rest.size()), false);
  const Heard pieces = hear(rest, 1 + how % 64, false);
  fuzz::must(whole.stanzas == pieces.stanzas && whole.closed == pieces.closed && whole.problem.empty() == pieces.problem.empty(), "how the bytes are cut does not matter",
             whole.problem + " / " + pieces.problem);
  if (how >= 128) hear(rest, 1 + how % 64, true);
  return 0;
}
