#include "protocol/xml_stream.h"

#include <expat.h>
#include <gloox/tag.h>

#include <exception>
#include <utility>

namespace souk {
namespace {

constexpr char kSeparator = '\n';  // between namespace and name; cannot be part of either
const std::string kStreams = "http://etherx.jabber.org/streams";
const std::string kXml = "http://www.w3.org/XML/1998/namespace";

std::pair<std::string, std::string> split(std::string_view name) {
  const auto at = name.rfind(kSeparator);
  if (at == name.npos) return {{}, std::string(name)};
  return {std::string(name.substr(0, at)), std::string(name.substr(at + 1))};
}

}  // namespace

struct XmlStream::Callbacks {
  static XmlStream& of(void* data) { return *static_cast<XmlStream*>(data); }
  static void start(void* data, const char* name, const char** attributes) {
    of(data).guard([&] { of(data).start(name, attributes); });
  }
  static void end(void* data, const char*) {
    of(data).guard([&] { of(data).end(); });
  }
  static void text(void* data, const char* text, int size) {
    of(data).guard([&] {
      auto& self = of(data);
      if (self.depth_ < 2 || self.cut_) return;
      self.held_ += static_cast<std::size_t>(size);
      if (self.held_ > kXmlBytesMax) self.cut_ = true;
      else self.text_.append(text, static_cast<std::size_t>(size));
    });
  }
  static void doctype(void* data, const char*, const char*, const char*, int) {
    of(data).fail("a document type, which RFC 6120 §11.1 forbids");
  }
};

XmlStream::XmlStream(std::string content, Handlers handlers)
    : content_(std::move(content)), handlers_(std::move(handlers)), parser_(nullptr, XML_ParserFree), restart_(true) {}
XmlStream::~XmlStream() = default;

void XmlStream::restart() {
  restart_ = true;
  if (feeding_) XML_StopParser(parser_.get(), XML_FALSE);
}

bool XmlStream::feed(std::string_view bytes) {
  // Whatever encoding it is told, expat takes a NUL among the first two bytes for UTF-16, which a stream may not be in (RFC 6120 §11.6).
  if (const auto nul = bytes.find('\0'); nul != std::string_view::npos) {
    if (!feed(bytes.substr(0, nul))) return false;
    if (!restart_) fail("a NUL byte, which XML does not have");
    return restart_;
  }
  if (restart_) {
    parser_.reset(XML_ParserCreateNS("UTF-8", kSeparator));
    XML_SetUserData(parser_.get(), this);
    XML_SetElementHandler(parser_.get(), Callbacks::start, Callbacks::end);
    XML_SetCharacterDataHandler(parser_.get(), Callbacks::text);
    XML_SetStartDoctypeDeclHandler(parser_.get(), Callbacks::doctype);
    root_.reset();
    current_ = nullptr;
    text_.clear();
    problem_.clear();
    depth_ = elements_ = 0;
    held_ = pending_ = 0;
    cut_ = restart_ = false;
  }
  if (!problem_.empty()) return false;
  pending_ += bytes.size();
  feeding_ = true;
  const auto status = XML_Parse(parser_.get(), bytes.data(), static_cast<int>(bytes.size()), XML_FALSE);
  feeding_ = false;
  if (restart_) return true;
  if (status != XML_STATUS_OK && problem_.empty()) fail(XML_ErrorString(XML_GetErrorCode(parser_.get())));
  if (depth_ == 1) pending_ = 0;  // between stanzas: keepalives
  if (pending_ > kXmlStanzaMax) fail("one stanza of over " + std::to_string(kXmlStanzaMax >> 20) + " MiB");
  return problem_.empty();
}

void XmlStream::fail(std::string why) {
  if (problem_.empty()) problem_ = std::move(why);
  if (feeding_) XML_StopParser(parser_.get(), XML_FALSE);
}

// expat is C: nothing may be thrown through it, and it may still call once or twice after it was stopped.
template <class Call>
void XmlStream::guard(Call&& call) noexcept {
  if (restart_ || !problem_.empty()) return;
  try {
    call();
  } catch (const std::exception& error) {
    fail(std::string("it could not be handled: ") + error.what());
  } catch (...) {
    fail("it could not be handled");
  }
}

void XmlStream::start(const char* name, const char** attributes) {
  ++depth_;
  if (depth_ > 1 && !cut_) {
    flush_text();
    cut_ = depth_ - 1 > kXmlDepthMax || ++elements_ > kXmlElementsMax;
  }
  if (cut_) return;
  const auto [space, local] = split(name);
  auto tag = std::make_unique<gloox::Tag>(local);
  gloox::Tag::AttributeList list;
  held_ += local.size();
  for (; *attributes; attributes += 2) {
    const std::string value = attributes[1];
    const auto [attribute_space, attribute] = split(attributes[0]);
    // gloox finds attributes by local name alone, so `evil:from` would pass for `from`.
    const bool language = attribute_space == kXml && attribute == "lang";
    if (!attribute_space.empty() && !language) continue;
    held_ += attribute.size() + value.size();
    list.push_back(new gloox::Tag::Attribute(attribute, value));
    if (language) list.back()->setPrefix("xml");
  }
  tag->setAttributes(list);  // the tag owns them now
  if (depth_ > 1 && held_ > kXmlBytesMax) cut_ = true;
  if (depth_ == 1) {
    if (local != "stream" || space != kStreams) return fail("no XMPP stream, but <" + local.substr(0, 40) + ">");
    tag->setXmlns(space);
    if (handlers_.opened) handlers_.opened(*tag);
    pending_ = 0;
    return;
  }
  const std::string inherited = current_ ? current_->xmlns() : std::string();
  if (space != (inherited.empty() ? content_ : inherited)) tag->setXmlns(space);
  if (current_) {
    current_->addChild(tag.get());
    current_ = tag.release();
  } else {
    current_ = tag.get();
    root_ = std::move(tag);
  }
}

void XmlStream::end() {
  --depth_;
  if (depth_ == 0) {
    if (handlers_.closed) handlers_.closed();
    return;
  }
  if (!cut_) flush_text();
  if (depth_ > 1) {
    if (!cut_) current_ = current_->parent();
    return;
  }
  const auto stanza = std::move(root_);
  const bool cut = cut_;
  current_ = nullptr;
  text_.clear();
  elements_ = 0;
  held_ = pending_ = 0;
  cut_ = false;
  if (stanza && handlers_.stanza) handlers_.stanza(*stanza, cut);
}

void XmlStream::flush_text() {
  if (current_ && !text_.empty()) current_->addCData(text_);
  text_.clear();
}

}  // namespace souk
