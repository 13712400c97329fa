// gloox::Client and gloox::Component as one thing, kept to what we need of them: the login, and writing stanzas.
#pragma once
#include <gloox/clientbase.h>
#include <gloox/jid.h>

#include <memory>
#include <string>

namespace souk {

/// Where the engine hands what comes from the server.
class StreamSink {
 public:
  virtual void opened() = 0;                       // connected; our stream header goes out next
  virtual void heard() = 0;                        // bytes came, whatever they are
  virtual void feed(const std::string& bytes) = 0;  // plain, or decrypted
  virtual void broken(const std::string& why) = 0;

 protected:
  ~StreamSink() = default;
};

/// gloox would feed its own parser and call its own handlers; here the sink gets the bytes, and pass() gives back what is gloox's.
class GlooxEngine {
 public:
  virtual ~GlooxEngine() = default;
  virtual gloox::ClientBase& base() = 0;
  /// </stream:stream>, and the end of the connection.
  virtual void hang_up() = 0;
  /// An element of the login; null: the stream was closed.
  virtual void pass(gloox::Tag* tag) = 0;
  virtual bool bound() const = 0;
  /// Of a client, from its next connect on.
  virtual void set_resource(const std::string& resource) = 0;

  /// Neither fetches a roster nor sends presence. Anonymous if the JID has no user. `sink` outlives the engine.
  static std::unique_ptr<GlooxEngine> client(StreamSink& sink, const gloox::JID& jid, const std::string& password);
  static std::unique_ptr<GlooxEngine> component(StreamSink& sink, const std::string& domain, const std::string& secret);
};

}  // namespace souk
