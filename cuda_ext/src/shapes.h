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

// Raised by one whenever a signature or a struct changes; the engine refuses any other.
constexpr int kAbi = 4;

// A batch of one serves all rows: its *_rows is 1.
struct WarpShape {
  int64_t rows, channels, image_rows, matrix_rows, u_rows;
  int64_t in[3], out[3];
  int32_t dim, border, nearest, threads;
};

// Coordinates (coord_rows, dim, samples) in an image; a batch of one serves all rows.
struct SampleShape {
  int64_t rows, channels, image_rows, coord_rows, in[3], samples;
  int32_t dim, border, threads;
};

// Points (dim, samples) to be found in a warp of `size`.
struct PointShape {
  int64_t size[3], samples;
  double tolerance;
  int32_t dim, steps, threads;
};

// Lines of `size` samples along one axis of a volume (before, size, after); v_rows, image_rows: a
// batch of one serves all rows.
struct LineShape {
  int64_t rows, channels, image_rows, v_rows, before, size, after;
  double scale;
  int32_t modulate, threads;
};

// volumes: of (z, y, x) samples each; sigma: voxels, 0 leaves an axis alone; box: that shape of the
// same variance instead of a Gaussian; adjoint: the transpose. For C++: on CUDA taps are numbers.
struct SmoothShape {
  int64_t volumes;
  int64_t size[3];
  double sigma[3];
  double scale;
  int64_t box, adjoint, threads;
};

// A gradient of (pairs x halves, channels, samples).
struct DescentShape {
  int64_t pairs, halves, channels, samples, threads;
};

struct JacobianShape {
  int64_t rows;
  int64_t size[3];
  int32_t dim, threads;
};

// size: of the label map; kind: a LabelKind.
struct LabelShape {
  int64_t size[3], samples;
  int32_t dim, kind, threads;
};

enum LabelKind : int { kUint8, kInt8, kInt16, kInt32, kInt64 };

// weight_rows: 1 serves all rows. window: 0 B-spline of order 3, 1 Gaussian, 2 linear. approximate:
// moving samples count in their nearest bin and the caller convolves.
struct ParzenShape {
  int64_t rows, channels, voxels, weight_rows;
  int32_t bins, window, approximate, threads;
};

// mask_rows: 0 without a mask; weight: (weight_rows, weight_channels) volumes where weight_field,
// numbers otherwise; 1 serves all rows or channels.
struct LnccShape {
  int64_t rows, channels, size[3], radius;
  int64_t mask_rows, weight_rows, weight_channels, weight_field;
  int64_t gaussian, squared, exact, threads;
  double epsilon;
};

}  // namespace fireants
