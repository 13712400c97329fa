// A service whose function starts a program that reads all of its stdin.
#include <souk/service.h>

#include <cstdlib>

int main() {
  return souk::service::serve([](const souk::service::Request& request) { return std::system("cat >&2") == 0 ? std::string(request.body) : "cat failed"; });
}
