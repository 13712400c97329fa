// XML text to tags, through the parser that the product uses.
#pragma once
#include <gloox/parser.h>
#include <gloox/tag.h>
#include <gloox/taghandler.h>

#include <memory>
#include <string>
#include <vector>

namespace souk::test {

class XmlReader : gloox::TagHandler {
 public:
  /// Every element at the top of `text`, in order; what came before a fault, if there is one.
  static std::vector<std::unique_ptr<gloox::Tag>> all(std::string text, bool* well_formed = nullptr) {
    XmlReader reader;
    gloox::Parser parser(&reader);
    const bool fine = parser.feed(text) == -1;
    if (well_formed) *well_formed = fine;
    return std::move(reader.tags_);
  }
  /// The first element, or nothing.
  static std::unique_ptr<gloox::Tag> one(std::string text) {
    auto tags = all(std::move(text));
    return tags.empty() ? nullptr : std::move(tags.front());
  }

 private:
  void handleTag(gloox::Tag* tag) override { tags_.emplace_back(tag->clone()); }
  std::vector<std::unique_ptr<gloox::Tag>> tags_;
};

}  // namespace souk::test
