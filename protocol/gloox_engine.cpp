#include "protocol/gloox_engine.h"

#include <gloox/client.h>
#include <gloox/component.h>
#include <gloox/tlsbase.h>

#include <exception>
#include <utility>

namespace souk {
namespace {

template <class Base>
class Engine final : public Base, public GlooxEngine {
 public:
  template <class... Arguments>
  explicit Engine(StreamSink& sink, Arguments&&... arguments) : Base(std::forward<Arguments>(arguments)...), sink_(sink) {
    this->setCompression(false);
  }
  gloox::ClientBase& base() override { return *this; }
  void hang_up() override { Base::disconnect(); }
  void pass(gloox::Tag* tag) override { Base::handleTag(tag); }
  bool bound() const override { return this->m_resourceBound; }
  void set_resource(const std::string& resource) override { this->m_jid.setResource(resource); }

  void handleConnect(const gloox::ConnectionBase* connection) override {
    sink_.opened();
    Base::handleConnect(connection);
  }
  void handleReceivedData(const gloox::ConnectionBase*, const std::string& bytes) override {
    sink_.heard();
    try {
      if (this->m_encryption && this->m_encryptionActive) this->m_encryption->decrypt(bytes);
      else sink_.feed(bytes);
    } catch (const std::exception& error) {
      sink_.broken(error.what());
    }
  }
  void handleDecryptedData(const gloox::TLSBase*, const std::string& bytes) override { sink_.feed(bytes); }

 private:
  void rosterFilled() override { this->notifyOnConnect(); }  // gloox would announce itself with a presence here
  StreamSink& sink_;
};

}  // namespace

std::unique_ptr<GlooxEngine> GlooxEngine::client(StreamSink& sink, const gloox::JID& jid, const std::string& password) {
  auto made = std::make_unique<Engine<gloox::Client>>(sink, jid, password);
  made->disableRoster();
  return made;
}

std::unique_ptr<GlooxEngine> GlooxEngine::component(StreamSink& sink, const std::string& domain, const std::string& secret) {
  return std::make_unique<Engine<gloox::Component>>(sink, "jabber:component:accept", domain, domain, secret);
}

}  // namespace souk
