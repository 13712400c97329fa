#include "protocol/expression.h"

namespace souk {
}  // namespace souk
