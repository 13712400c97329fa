// What a service writes to its worker. Input: a byte for the framing and for where the bytes are cut, the bytes.
#include "protocol/payload.h"
#include "tests/fuzz/fuzz.h"
#include "worker/service_frames.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  using namespace souk;
  using namespace souk::worker;
  using fuzz::must;
  if (size > fuzz::kInputMax) return 0;
  auto text = fuzz::text_of(bytes, size);
  const unsigned char how = fuzz::byte_off(text);
  const Framing framing = how % 2 == 0 ? Framing::binary : Framing::json;
  const std::size_t piece = 1 + how / 2;
  const auto read = [&](std::size_t cut, std::vector<ServiceAnswer>& answers) {
    AnswerReader reader(framing);
    for (std::size_t at = 0; at < text.size(); at += cut)
      if (const auto taken = reader.take(text.substr(at, cut), answers); !taken) return taken.error().why;
    return std::string();
  };
  std::vector<ServiceAnswer> whole, cut;
  const std::string why = read(text.size() + 1, whole), why_cut = read(piece, cut);
  must(why == why_cut, "the same is refused however it is cut", why + " / " + why_cut);
  must(whole.size() == cut.size(), "the same is read however it is cut");
  std::size_t sum = 0;
  for (std::size_t i = 0; i < whole.size(); ++i) {
    must(whole[i].id == cut[i].id && whole[i].failed == cut[i].failed && whole[i].body == cut[i].body, "the same is read however it is cut", whole[i].body);
    sum += whole[i].body.size();
  }
  must(sum <= text.size(), "answers are not larger than their bytes");
  must(fuzz::is_safe_for_a_terminal(why), "a refusal is safe for a terminal", why);
  // What people ask travels as it is: a request is one line of JSON, or as long as it says.
  std::string request;
  append(request, framing, {1, text, "item", 2, 3, 4});
  if (framing == Framing::json) must(request.find('\n') == request.size() - 1, "a request is one line", request);
  else must(request.size() >= text.size() + 6 && request.size() <= text.size() + 32, "a request is its parts");
  return 0;
}
