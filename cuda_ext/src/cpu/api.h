// What the library exports: a plain C interface on pointers. Every function comes for float (_f32)
// and double (_f64) and returns a Status. Arrays are dense, in C order; volumes are (rows,
// channels, z, y, x) and an image of 2 axes has z = 1. `threads` is how many may work.
#pragma once
#include <cstdint>
#include <new>

#include "shapes.h"

#if defined(_WIN32)
#define FIREANTS_API extern "C" __declspec(dllexport)
#else
#define FIREANTS_API extern "C" __attribute__((visibility("default")))
#endif

namespace fireants {

enum Status : int { kOk = 0, kNoMemory = 1 };

// Runs `body` so that no exception crosses the C boundary: memory is all that can be missing.
template <class Body>
int guarded(Body&& body) {
  try {
    body();
    return kOk;
  } catch (const std::bad_alloc&) {
    return kNoMemory;
  } catch (...) {
    return kNoMemory;
  }
}

}  // namespace fireants
