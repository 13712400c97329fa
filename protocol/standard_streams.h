// Descriptors 0, 1 and 2 as every program expects them.
#pragma once
#include <fcntl.h>
#include <unistd.h>

namespace souk {

/// Opens /dev/null in place of closed ones. Else the next socket or file would become our standard output, and what is printed would go there.
/// First thing in main().
inline void keep_standard_streams() {
  for (int fd = 0; fd <= 2; ++fd)
    if (::fcntl(fd, F_GETFD) < 0 && ::open("/dev/null", fd == 0 ? O_RDONLY : O_WRONLY) != fd) ::_exit(2);
}

}  // namespace souk
