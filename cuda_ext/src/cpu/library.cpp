#include "cpu/api.h"

FIREANTS_API int fireants_abi() { return fireants::kAbi; }

// The best x86-64 level this machine runs (2 or 3), 0 elsewhere: which library to load.
FIREANTS_API int fireants_cpu_level() {
#if (defined(__x86_64__) || defined(_M_X64)) && (defined(__GNUC__) || defined(__clang__))
  __builtin_cpu_init();
  const bool v3 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                  __builtin_cpu_supports("bmi2");
  return v3 ? 3 : 2;
#else
  return 0;
#endif
}
