#include "protocol/invitation.h"

#include <algorithm>

namespace souk {
namespace {

constexpr std::size_t kLinkMax = 2048;

bool word_character(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_'; }
bool is_word(std::string_view text) { return !text.empty() && text.size() <= 128 && std::all_of(text.begin(), text.end(), word_character); }
bool is_domain(std::string_view text) {
  return !text.empty() && text.size() <= 255 && text.front() != '.' && text.back() != '.' && std::all_of(text.begin(), text.end(), [](char c) { return (word_character(c) && c != '_') || c == '.'; });
}

int hex(char c) { return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1; }

std::string escaped(std::string_view text) {
  constexpr std::string_view digits = "0123456789ABCDEF";
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (word_character(c) || c == '.') out += c;
    else out += {'%', digits[byte >> 4], digits[byte & 15]};
  }
  return out;
}

}  // namespace

std::string InvitationLink::text() const { return "xmpp:" + domain + "?register;preauth=" + token() + (manager.empty() ? "" : ";manager=" + escaped(manager)); }

Result<InvitationLink> parse_invitation(std::string_view link) {
  const auto bad = [](std::string why) { return Error{"this is no invitation", std::move(why), "paste the whole link, in quotes: 'xmpp:DOMAIN?register;preauth=TOKEN...'"}; };
  if (link.size() > kLinkMax) return bad("it is over 2048 bytes");
  if (!link.starts_with("xmpp:")) return bad("it does not begin with xmpp:");
  link.remove_prefix(5);
  const auto question = link.find('?');
  if (question == link.npos) return bad("it has no token; without quotes the shell may have cut it at a semicolon");
  InvitationLink read;
  read.domain = link.substr(0, question);
  if (!is_domain(read.domain)) return bad("it names no domain");
  std::string_view rest = link.substr(question + 1);
  bool registers = false;
  while (!rest.empty()) {
    const auto end = rest.find(';');
    const std::string_view part = rest.substr(0, end);
    rest = end == rest.npos ? std::string_view() : rest.substr(end + 1);
    const auto equals = part.find('=');
    const std::string_view key = part.substr(0, equals), value = equals == part.npos ? std::string_view() : part.substr(equals + 1);
    if (key == "register") registers = true;
    if (key == "preauth") {
      const auto dot = value.find('.');
      if (dot == value.npos || !is_word(value.substr(0, dot)) || !is_word(value.substr(dot + 1))) return bad("its token is damaged, or of another kind of invitation: this one is for chat clients");
      read.name = value.substr(0, dot);
      read.secret = value.substr(dot + 1);
    }
    if (key == "manager") {
      read.manager.clear();
      for (std::size_t i = 0; i < value.size(); ++i) {
        char c = value[i];
        if (c == '%') {
          if (i + 2 >= value.size() || hex(value[i + 1]) < 0 || hex(value[i + 2]) < 0) return bad("the manager's address is damaged");
          c = static_cast<char>(hex(value[i + 1]) * 16 + hex(value[i + 2]));
          i += 2;
        }
        if (static_cast<unsigned char>(c) <= ' ' || c == 0x7f) return bad("the manager's address is damaged");
        read.manager += c;
      }
    }
  }
  if (!registers || read.name.empty()) return bad("it has no token; without quotes the shell may have cut it at a semicolon");
  if (!read.name.starts_with(kInvitedPrefix)) return bad("its token is of another kind of invitation: this one is for chat clients");
  if (read.manager.empty()) return bad("it does not name the manager; without quotes the shell may have cut it at a semicolon");
  return read;
}

Result<Credentials> credentials_in(const Form& answer, const InvitationLink& link, std::string_view wanted) {
  const auto bad = [](std::string why, std::string remedy) { return Error{"cannot join", std::move(why), std::move(remedy)}; };
  const auto text = [&](const char* var) { return std::string(answer.text(var)); };
  Credentials made{text("jid"), text("password"), text("manager"), text("room")};
  if (text("role") != wanted)
    return wanted == "worker" ? bad("the invitation is for a person", "use it where you work: souk join LINK --as NAME")
                              : bad("the invitation is for a worker", "paste its command on the machine that shall work: souk-worker join ...");
  for (const std::string* one : {&made.jid, &made.password, &made.manager, &made.room})
    if (one->empty() || one->size() > 1024 || !is_printable(*one) || one->find_first_of("\"\\\r\n\t") != std::string::npos) return bad("the manager's answer cannot be used", "is it of another version?");
  const auto at = made.jid.find('@');
  if (at == 0 || at == std::string::npos || std::string_view(made.jid).substr(at + 1) != link.domain) return bad("the manager names an account on another server, " + made.jid, "do not trust this invitation");
  return made;
}

}  // namespace souk
