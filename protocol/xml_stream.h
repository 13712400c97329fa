// The bytes of an XMPP stream to stanzas, one tree at a time, every bound checked.
// On expat and not on gloox's own parser: that one ends an attribute in apostrophes at a quotation mark, keeps half a stanza of a
// lost connection, builds trees of any depth (which its recursive destructor then cannot free) and refuses characters above U+FFFF.
#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

struct XML_ParserStruct;
namespace gloox {
class Tag;
}

namespace souk {

// A stanza past one of the first three is not built further; its root is handed over as `cut`, so that it can be refused and the
// stream goes on: any peer can make an honest server forward such a thing. Past the fourth the stream itself is broken.
constexpr int kXmlDepthMax = 64;                  // levels of one stanza
constexpr int kXmlElementsMax = 250'000;          // elements of one stanza
constexpr std::size_t kXmlBytesMax = 8u << 20;    // names, attributes and text of one stanza
constexpr std::size_t kXmlStanzaMax = 16u << 20;  // bytes on the wire of one stanza

class XmlStream {
 public:
  struct Handlers {
    std::function<void(gloox::Tag& header)> opened;           // <stream:stream>
    std::function<void(gloox::Tag& stanza, bool cut)> stanza;  // what stands directly below it
    std::function<void()> closed;                             // </stream:stream>
  };
  /// `content`: namespace of the stanzas. It is left out of the trees, as gloox does it; so is every prefix: an element carries
  /// its namespace as `xmlns` where it differs from its parent's. Attributes with a prefix are dropped, but for xml:lang.
  XmlStream(std::string content, Handlers handlers);
  ~XmlStream();
  XmlStream(const XmlStream&) = delete;

  /// False when the stream is broken for good; problem() tells why. What a handler throws breaks it too.
  bool feed(std::string_view bytes);
  const std::string& problem() const { return problem_; }

  /// What comes next is a new document. From within a handler: the rest of the bytes being fed is thrown away, which is what a
  /// stream needs whose peer must not speak before our next header (RFC 6120 §5.4.3.3, §6.4.6).
  void restart();

 private:
  struct Callbacks;
  void start(const char* name, const char** attributes);
  void end();
  void flush_text();
  template <class Call>
  void guard(Call&& call) noexcept;
  void fail(std::string why);

  const std::string content_;
  const Handlers handlers_;
  std::unique_ptr<XML_ParserStruct, void (*)(XML_ParserStruct*)> parser_;
  std::unique_ptr<gloox::Tag> root_;
  gloox::Tag* current_ = nullptr;  // the innermost open element that was built
  std::string text_, problem_;
  int depth_ = 0, elements_ = 0;
  std::size_t held_ = 0;     // bytes in the tree so far
  std::size_t pending_ = 0;  // bytes fed since the last stanza ended
  bool cut_ = false, feeding_ = false, restart_ = false;
};

}  // namespace souk
