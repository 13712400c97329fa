// toml++, for whoever reads files that others wrote.
#pragma once
// toml++ 3.3 asserts on some texts, such as a line `[=`, what it then checks and refuses all the same; a build for development would end there.
// The same for every file that includes it: its functions are inline.
#define TOML_ASSERT(expr) static_assert(true)
#include <toml++/toml.h>
