// Levenberg-Marquardt whose curvature is the mean over a window. A block owns a tile of kWide x
// kHigh columns and marches along z: what a window sums of a plane goes through shared memory, the
// sums of windows that are not yet whole wait in registers.
//
// CHANNELS: of the gradient, 2 or 3. RX, RY, RZ: what a window has on each side of its middle, no
// more than the image is long.
#include "common.cuh"
#include "descent.h"

namespace fireants {

constexpr int kWide = 32, kHigh = kThreads / kWide;
constexpr int kLines = kHigh + 2 * RY, kColumns = kWide + 2 * RX;
constexpr int kEntries = CHANNELS * (CHANNELS + 1) / 2;
constexpr int kAhead = 2 * RZ;

// A plane of the gradient, and where the block's tile begins in it.
struct Plane {
  const REAL* grad;
  long long ny, nx, y0, x0, samples;

  // The gradient's channels times `unit`, 0 outside.
  __device__ __forceinline__ void load(int line, int column, REAL unit, REAL* g) const {
    const long long y = y0 + line, x = x0 + column;
    const bool there = y >= 0 && y < ny && x >= 0 && x < nx;
#pragma unroll
    for (int c = 0; c < CHANNELS; ++c)
      g[c] = there ? grad[c * samples + y * nx + x] * unit : REAL(0);
  }
};

// What the threads of a block share of a plane: the tile with what surrounds it, and its products
// summed along lines.
struct Tile {
  REAL raw[CHANNELS][kLines][kColumns];
  REAL sums[kEntries][kLines][kWide];
};

// sums: of the products over the thread's window in this plane. All threads have to call it.
__device__ __forceinline__ void sum_window(const Plane& plane, REAL unit, Tile& tile,
                                           REAL (&sums)[kEntries]) {
  const int tx = threadIdx.x % kWide, ty = threadIdx.x / kWide;
  for (int k = threadIdx.x; k < kLines * kColumns; k += kThreads) {
    const int j = k / kColumns, i = k % kColumns;
    REAL g[CHANNELS];
    plane.load(j - RY, i - RX, unit, g);
    for (int c = 0; c < CHANNELS; ++c) tile.raw[c][j][i] = g[c];
  }
  __syncthreads();
  for (int j = ty; j < kLines; j += kHigh) {
    REAL along[kEntries] = {};
    for (int i = 0; i <= 2 * RX; ++i) {
      REAL g[CHANNELS];
      for (int c = 0; c < CHANNELS; ++c) g[c] = tile.raw[c][j][tx + i];
      add_products(g, along);
    }
    for (int e = 0; e < kEntries; ++e) tile.sums[e][j][tx] = along[e];
  }
  __syncthreads();
  for (int e = 0; e < kEntries; ++e) {
    sums[e] = REAL(0);
    for (int j = 0; j <= 2 * RY; ++j) sums[e] += tile.sums[e][ty + j][tx];
  }
}

// The sums of windows over the last planes.
struct Ahead {
  REAL sums[kEntries][kAhead ? kAhead : 1] = {};

  // own: of the newest plane -> of the window that it is the last plane of
  __device__ __forceinline__ void push(REAL (&own)[kEntries]) {
    if (kAhead == 0) return;
#pragma unroll
    for (int e = 0; e < kEntries; ++e) {
      const REAL newest = own[e];
      own[e] += sums[e][0];
#pragma unroll
      for (int k = 0; k + 1 < kAhead; ++k) sums[e][k] = sums[e][k + 1] + newest;
      sums[e][kAhead ? kAhead - 1 : 0] = newest;
    }
  }
};

}  // namespace fireants

using namespace fireants;

// v = -2 sqrt(l) (A + l I)^-1 g, A the sum of g g^T over a window times `share`, zeros outside; g
// in units of its root mean square over the pair. blockIdx: the tile, `depth` planes, the row;
// largest (rows, CHANNELS, gridDim.y, gridDim.x).
extern "C" __global__ void __launch_bounds__(256)
levenberg_marquardt_tiles(DescentShape s, long long nz, long long ny, long long nx, long long depth,
                          double share, double tiny, const double* __restrict__ damping,
                          const double* __restrict__ sums, const REAL* __restrict__ grad,
                          REAL* __restrict__ out, REAL* __restrict__ largest) {
  __shared__ Tile tile;
  const long long row = blockIdx.z, pair = row / s.halves;
  const REAL* from = grad + row * CHANNELS * s.samples;
  REAL* to = out + row * CHANNELS * s.samples;
  const Damping<REAL> level(sums[pair] / (static_cast<double>(s.halves) * s.samples),
                            damping[pair], tiny);
  const long long across = (nx + kWide - 1) / kWide;
  const long long y0 = blockIdx.x / across * kHigh, x0 = blockIdx.x % across * kWide;
  const int tx = threadIdx.x % kWide, ty = threadIdx.x / kWide;
  const bool inside = y0 + ty < ny && x0 + tx < nx;
  const long long low = blockIdx.y * depth, high = min(low + depth, nz);
  Ahead ahead;
  REAL top[CHANNELS] = {};
  for (long long z = low - RZ; z < high + RZ; ++z) {
    REAL window[kEntries] = {};
    if (z >= 0 && z < nz)  // the same for all threads of the block
      sum_window(Plane{from + z * ny * nx, ny, nx, y0, x0, s.samples}, level.unit, tile, window);
    ahead.push(window);
    const long long middle = z - RZ;
    if (!inside || middle < low) continue;
    REAL g[CHANNELS], v[CHANNELS];
    Plane{from + middle * ny * nx, ny, nx, y0, x0, s.samples}.load(ty, tx, level.unit, g);
    for (int e = 0; e < kEntries; ++e) window[e] *= static_cast<REAL>(share);
    solve(window, g, level.level, level.by, v);
    for (int c = 0; c < CHANNELS; ++c) {
      to[c * s.samples + (middle * ny + y0 + ty) * nx + x0 + tx] = v[c];
      top[c] = larger(top[c], fabs(v[c]));
    }
  }
  for (int c = 0; c < CHANNELS; ++c) {
    const REAL most = over_block(top[c], Larger());
    const long long block = blockIdx.y * static_cast<long long>(gridDim.x) + blockIdx.x;
    if (threadIdx.x == 0)
      largest[(row * CHANNELS + c) * gridDim.x * gridDim.y + block] = most;
  }
}
FIREANTS_KERNEL(levenberg_marquardt_tiles)
