#include "submit/server_init.h"

#include <fcntl.h>
#include <grp.h>
#include <netinet/in.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <pwd.h>
#include <spdlog/fmt/fmt.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <tuple>
#include <utility>

#include "protocol/certificate_names.h"
#include "protocol/quoting.h"
#include "submit/certificate.h"
#include "submit/state_folder.h"

namespace souk {
namespace {

namespace fs = std::filesystem;

template <auto end>
struct Free {
  template <class T>
  void operator()(T* object) const {
    end(object);
  }
};
using Bio = std::unique_ptr<BIO, Free<BIO_free>>;
using X509Pointer = std::unique_ptr<X509, Free<X509_free>>;
using Key = std::unique_ptr<EVP_PKEY, Free<EVP_PKEY_free>>;
using Store = std::unique_ptr<X509_STORE, Free<X509_STORE_free>>;
using StoreContext = std::unique_ptr<X509_STORE_CTX, Free<X509_STORE_CTX_free>>;

/// Whether a server with this certificate will be believed. `warnings` gets what is no reason to refuse.
Result<Done> check_certificate(const ServerSite& site, const std::string& authority, std::vector<std::string>& warnings) {
  const auto bad = [&](std::string why, std::string remedy) { return Error{"the certificate does not do", std::move(why), std::move(remedy)}; };
  const auto certificate_text = read_file(site.certificate), key_text = read_file(site.key);
  if (!certificate_text) return certificate_text.error();
  if (!key_text) return key_text.error();
  const Bio in(BIO_new_mem_buf(certificate_text.value().data(), static_cast<int>(certificate_text.value().size())));
  const X509Pointer certificate(PEM_read_bio_X509(in.get(), nullptr, nullptr, nullptr));
  if (!certificate) return bad(site.certificate.string() + " has no PEM certificate", "give the server's own one first, then those between it and its authority");
  STACK_OF(X509)* const chain = sk_X509_new_null();
  const std::unique_ptr<STACK_OF(X509), void (*)(STACK_OF(X509)*)> chain_end(chain, [](STACK_OF(X509)* all) { sk_X509_pop_free(all, X509_free); });
  while (X509* const more = PEM_read_bio_X509(in.get(), nullptr, nullptr, nullptr)) sk_X509_push(chain, more);
  const Bio key_in(BIO_new_mem_buf(key_text.value().data(), static_cast<int>(key_text.value().size())));
  const Key key(PEM_read_bio_PrivateKey(key_in.get(), nullptr, [](char*, int, int, void*) { return 0; }, nullptr));
  if (!key) return bad(site.key.string() + " has no PEM key that can be read without a passphrase", "the server starts by itself, so its key has none");
  if (X509_check_private_key(certificate.get(), key.get()) != 1) return bad("the key belongs to another certificate", "name the two files that were made together");
  if (X509_check_host(certificate.get(), site.domain.c_str(), site.domain.size(), kCertificateNameFlags, nullptr) != 1)
    return bad("it is not for " + site.domain, "get one that names it in subjectAltName (DNS:" + site.domain + ")");
  if (X509_cmp_current_time(X509_get0_notAfter(certificate.get())) < 0) return bad("it has expired", "renew it");
  if (X509_cmp_current_time(X509_get0_notBefore(certificate.get())) > 0) return bad("it is not valid yet", "is this machine's clock right?");
  struct stat status{};
  if (::stat(site.key.c_str(), &status) == 0 && (status.st_mode & 077) != 0) warnings.push_back("others may read the key " + site.key.string() + ": chmod 600 it, or make it readable for the server's user alone");
  const Store store(X509_STORE_new());
  const bool loaded = authority.empty() ? X509_STORE_set_default_paths(store.get()) == 1 : X509_STORE_load_locations(store.get(), authority.c_str(), nullptr) == 1;
  if (!loaded) return bad("the authorities in " + (authority.empty() ? std::string("the system's store") : authority) + " cannot be read", "name a PEM file: --ca-file FILE");
  const StoreContext check(X509_STORE_CTX_new());
  if (X509_STORE_CTX_init(check.get(), store.get(), certificate.get(), chain) != 1) return bad("OpenSSL refused to look at it", "");
  X509_STORE_CTX_set_purpose(check.get(), X509_PURPOSE_SSL_SERVER);
  if (X509_verify_cert(check.get()) != 1)
    return bad(X509_verify_cert_error_string(X509_STORE_CTX_get_error(check.get())),
               authority.empty() ? "if an authority of your own issued it: --ca-file FILE; the file of the certificate must have all between it and the authority"
                                 : "does --ca-file name the authority that issued it? the file of the certificate must have all between the two");
  return Done{};
}

Result<Done> make_folders(const fs::path& folder) {
  std::error_code failure;
  fs::create_directories(folder.parent_path(), failure);
  if (::mkdir(folder.c_str(), 0700) != 0 && errno != EEXIST) return Error{"cannot make the folder " + folder.string(), std::strerror(errno), "choose another one: --out DIR"};
  return Done{};
}

/// Nothing is there but folders, as the volumes of containers begin, and the certificate that was given.
bool is_free(const ServerSite& site) {
  std::error_code failure;
  for (fs::recursive_directory_iterator at(site.dir, failure), end; !failure && at != end; at.increment(failure))
    if (!at->is_directory(failure) && at->path() != site.certificate && at->path() != site.key) return false;
  return !failure || failure == std::errc::no_such_file_or_directory;
}

/// Somebody listens there; the server would log that it cannot, and Prosody run on without.
bool is_taken(std::uint16_t port, bool loopback_only) {
  sockaddr_in address{};
  address.sin_family = AF_INET, address.sin_port = htons(port), address.sin_addr.s_addr = htonl(loopback_only ? INADDR_LOOPBACK : INADDR_ANY);
  const int trial = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const int yes = 1;  // as servers do: connections that ended a moment ago are no hindrance
  const bool taken = trial >= 0 && ::setsockopt(trial, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes) == 0 &&
                     ::bind(trial, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 && errno == EADDRINUSE;
  if (trial >= 0) ::close(trial);
  return taken;
}

void look_at_ports(const ServerSite& site, std::vector<std::string>& warnings) {
  for (const auto& [port, option, inside] : {std::tuple{site.clients, "--port", false}, {site.component, "--component-port", true}, {site.uploads, "--upload-port", false}})
    if (is_taken(port, inside))
      warnings.push_back(fmt::format("something listens at port {} already, so this server cannot: `sudo ss -tlnp sport = :{}` tells what. If Debian's package of {} started it: sudo systemctl disable --now {}; else take "
                                     "another port: {}",
                                     port, port, site.kind == ServerKind::prosody ? "prosody" : "ejabberd", site.kind == ServerKind::prosody ? "prosody" : "ejabberd", option));
}

/// A password that is there already stays, so that accounts made with it still do.
Result<std::string> password_in(const fs::path& file) {
  std::error_code ignored;
  if (!fs::exists(file, ignored)) return new_password();
  auto text = read_file(file);
  if (!text) return text;
  const std::string line = text.value().substr(0, text.value().find_first_of("\r\n"));
  // What could end a string of Lua, YAML or Erlang is not in any password of ours; a person may have written another.
  if (line.empty() || line.find_first_not_of("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_") != line.npos)
    return Error{"cannot use the password in " + file.string(), "it has other characters than letters, digits, - and _, or is empty", "remove the file to get a new one"};
  return line;
}

/// Gives the folder to the user that all runs as, and makes this process that user for good: whoever owns a folder could put a link where root writes.
Result<Done> become(const ServerSite& site, const passwd& user) {
  const auto bad = [&](std::string why, std::string remedy) { return Error{"nothing was written", std::move(why), std::move(remedy)}; };
  std::error_code ignored;
  if (const auto made = make_folders(site.dir); !made) return made;
  const int folder = ::open(site.dir.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  struct stat status{};
  const bool known = folder >= 0 && ::fstat(folder, &status) == 0;
  const int failure = errno;
  const bool given = known && (status.st_uid != 0 || ::fchown(folder, user.pw_uid, user.pw_gid) == 0);
  if (folder >= 0) ::close(folder);
  if (!known) return bad("cannot use " + site.dir.string() + ": " + std::strerror(failure), "choose another folder: --out DIR");
  if (!given) return bad("cannot give " + site.dir.string() + " to " + site.run_as + ": " + std::strerror(errno), "choose another folder: --out DIR");
  if (::initgroups(user.pw_name, user.pw_gid) != 0 || ::setgid(user.pw_gid) != 0 || ::setuid(user.pw_uid) != 0) return bad("cannot become " + site.run_as + ": " + std::strerror(errno), "");
  if (::access(site.dir.c_str(), R_OK | W_OK | X_OK) != 0) return bad(site.run_as + " cannot get into " + site.dir.string() + ": " + std::strerror(errno), "choose a folder below one that everybody may enter: --out /srv/grid");
  for (const fs::path& program : {site.server, site.manager})
    if (!program.empty() && ::access(program.c_str(), X_OK) != 0)
      return bad(site.run_as + " cannot run " + program.string() + ": " + std::strerror(errno), "install it where everybody may run it: sudo install souk souk-manager souk-worker souk-runner /usr/local/bin");
  return Done{};
}

}  // namespace

Result<Written> init_server(ServerInit wished) {
  ServerSite& site = wished.site;
  const ServerLayout at{site.dir};
  Written written;
  std::error_code ignored;
  if (!fs::exists(at.profile("manager"), ignored)) look_at_ports(site, written.warnings);  // else it is probably this grid that listens
  const passwd* const user = site.for_another ? ::getpwnam(site.run_as.c_str()) : nullptr;
  if (site.for_another && !user) return Error{"nothing was written", "there is no user " + site.run_as, "make it: sudo useradd --system " + site.run_as};
  if (!is_free(site)) {
    if (!fs::exists(at.profile("manager"), ignored)) return Error{"nothing was written", "something else is in " + site.dir.string(), "choose another folder: --out DIR"};
    struct stat status{};
    if (::geteuid() == 0 && ::lstat(site.dir.c_str(), &status) == 0 && status.st_uid != (user ? user->pw_uid : 0))
      return Error{"nothing was written", site.dir.string() + " belongs to another user than " + site.run_as, "say that one: --run-as USER; or give it the folder: sudo chown -R " + site.run_as + ": " + shell_word(site.dir.string())};
  }
  if (wished.self_signed) {
    site.certificate = at.server() / (site.domain + ".crt");
    site.key = at.server() / (site.domain + ".key");
  } else {
    if (const auto fine = check_certificate(site, wished.authority, written.warnings); !fine) return fine.error();
  }
  site.own_authority = wished.self_signed || !wished.authority.empty();

  // What only root may read is read before we are somebody else.
  std::string authority;
  std::vector<PlannedFile> copies;
  if (!wished.self_signed && site.own_authority) {
    auto text = read_file(wished.authority);
    if (!text) return text.error();
    authority = text.value();
  }
  if (site.for_another && !wished.self_signed && site.key.parent_path() != at.server()) {
    const auto certificate = read_file(site.certificate), key = read_file(site.key);
    if (!certificate) return certificate.error();
    if (!key) return key.error();
    site.certificate_source = std::exchange(site.certificate, at.server() / (site.domain + ".crt"));
    site.key_source = std::exchange(site.key, at.server() / (site.domain + ".key"));
    copies = {{site.certificate, certificate.value()}, {site.key, key.value()}};
    struct stat status{};
    for (const fs::path& folder : {site.certificate_source.parent_path(), site.key_source.parent_path()})
      if (::stat(folder.c_str(), &status) == 0 && status.st_uid != 0) {
        written.warnings.push_back(fmt::format("the server's unit takes certificate and key from {} whenever it starts, and that folder is not root's: put them where they stay and nobody else changes them, as in /etc/souk-tls, and name "
                                               "them there",
                                               folder.string()));
        break;
      }
  }
  if (site.for_another)
    if (const auto done = become(site, *user); !done) return done.error();

  ServerSecrets secrets;
  for (auto [part, secret] : {std::pair{"manager", &secrets.component}, {"admin", &secrets.admin}, {"worker", &secrets.worker}}) {
    auto password = password_in(at.password(part));
    if (!password) return password.error();
    *secret = password.value();
  }
  std::vector<PlannedFile> files = plan_server(site, secrets);
  files.insert(files.end(), copies.begin(), copies.end());
  if (wished.self_signed && !fs::exists(site.certificate, ignored)) {
    const auto made = self_signed({site.domain, "upload." + site.domain, "rooms." + site.domain});
    if (!made) return made.error();
    files.push_back({site.certificate, made.value().certificate});
    files.push_back({site.key, made.value().key});
    for (const char* part : {"worker", "admin"}) files.push_back({site.dir / part / "ca.pem", made.value().certificate});
  } else if (site.own_authority) {
    if (wished.self_signed) {
      auto text = read_file(site.certificate);
      if (!text) return text.error();
      authority = text.value();
    }
    for (const char* part : {"worker", "admin"}) files.push_back({site.dir / part / "ca.pem", authority});
  }
  if (wished.force) std::erase_if(files, [&](const PlannedFile& file) { return file.path == at.policy() && fs::exists(file.path, ignored); });  // that one is written to be changed
  else
    for (const auto& file : files)
      if (fs::exists(file.path, ignored)) return Error{"nothing was written", file.path.string() + " is there already", "choose another folder (--out DIR), or let it be written again with the same passwords: --force"};

  const std::vector<fs::path> folders{site.dir, at.server(), at.data(), at.uploads(), site.dir / "manager", site.dir / "manager" / "state", site.dir / "worker", site.dir / "admin"};
  for (const auto& folder : folders)
    if (const auto made = make_folders(folder); !made) return made.error();
  for (const auto& file : files) {
    if (const auto done = write_file(file.path, file.text); !done) return done.error();
    if (file.executable) ::chmod(file.path.c_str(), 0700);
    written.files.push_back(file.path);
  }
  if (site.kind == ServerKind::prosody) {
    // Prosody keeps salted hashes; an account is a file, readable at once.
    const fs::path accounts = at.data() / server_file_name(site.domain) / "accounts";
    for (const auto& folder : {accounts.parent_path(), accounts})
      if (const auto made = make_folders(folder); !made) return made.error();
    for (const auto& [name, password] : {std::pair{site.admin, secrets.admin}, {std::string("worker"), secrets.worker}}) {
      const fs::path file = accounts / (server_file_name(name) + ".dat");
      if (fs::exists(file, ignored)) continue;
      const auto keys = scram_keys(password, 4096);
      if (!keys) return keys.error();
      if (const auto done = write_file(file, render_account(keys.value())); !done) return done.error();
    }
  }
  return written;
}

}  // namespace souk
