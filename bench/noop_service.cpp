// A service that does nothing, for bench/compare: what a call costs besides what it does.
#include <souk/service.h>

int main() {
  return souk::service::serve([](const souk::service::Request&) { return std::string(); });
}
