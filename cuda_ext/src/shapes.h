// What the kernels are told of the tensors: one struct per family, the same for C++ and CUDA, each
// mirrored by a ctypes Structure of `fireants_engine.kernels.native`. Sizes are those of array axes,
// slowest first; an image of 2 axes has a first size of 1.
#pragma once

#if defined(__CUDACC_RTC__)
typedef long long int64_t;
typedef int int32_t;
typedef unsigned char uint8_t;
#else
#include <cstdint>
#endif

namespace fireants {

// A batch of one serves all rows: its *_rows is 1.
struct WarpShape {
  int64_t rows, channels, image_rows, matrix_rows, u_rows;
  int64_t in[3], out[3];
  int32_t dim, border, nearest, threads;
};

// pairs x halves rows of `channels` times `samples` numbers.
struct DescentShape {
  int64_t pairs, halves, channels, samples, threads;
};

}  // namespace fireants
