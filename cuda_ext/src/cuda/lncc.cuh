// Local normalised cross-correlation by windows of a radius known here; others: `lncc_wide.cuh`.
//
// A block owns a tile of (y, x) and marches along z: it sums a plane along x and y in shared memory
// and adds that to the sums of the 2 RADIUS planes ahead, which wait in registers. Products are never
// stored. The first pass leaves the value and the slopes of all windows, the second sums those over
// windows in the same way and writes the gradients. All sums run in one order.
//
// RADIUS; FLAT: one plane, no windows along z; GAUSSIAN: windows have weights; ROWS, BACK_ROWS:
// lines of a thread in the first and the second pass; INDEX: the type of an offset within a plane.
#include "lncc_score.cuh"

namespace fireants {

constexpr int kWide = 32;
constexpr int kDeep = FLAT ? 0 : RADIUS;
constexpr int kBlocks = sizeof(REAL) == 4 ? 2 : 1;  // of a multiprocessor at once, at least

// Weights along an axis, nothing of use for a box.
struct Window {
  REAL tap[2 * RADIUS + 1];
};

__device__ __forceinline__ REAL tap(const Window& w, int k) {
  return GAUSSIAN ? w.tap[k] : REAL(1);
}

// Sums of COUNT neighbouring windows; those of a box share what they have in common.
template <int COUNT>
__device__ __forceinline__ void windows(const Window& w, const REAL* in, REAL* out) {
  constexpr int kFirst = COUNT - 1, kLast = 2 * RADIUS;
  if (GAUSSIAN || COUNT == 1 || kFirst > kLast) {
#pragma unroll
    for (int g = 0; g < COUNT; ++g) {
      REAL sum = tap(w, 0) * in[g];
#pragma unroll
      for (int k = 1; k <= kLast; ++k) sum += tap(w, k) * in[g + k];
      out[g] = sum;
    }
    return;
  }
  REAL shared = in[kFirst];
#pragma unroll
  for (int k = kFirst + 1; k <= kLast; ++k) shared += in[k];
  out[kFirst] = shared;
  REAL side = in[kFirst - 1];
#pragma unroll
  for (int g = kFirst - 1; g >= 0; --g) {
    if (g < kFirst - 1) side += in[g];
    out[g] = shared + side;
  }
  side = in[kLast + 1];
#pragma unroll
  for (int g = 1; g <= kFirst; ++g) {
    if (g > 1) side += in[kLast + g];
    out[g] += side;
  }
}

// Four numbers that shared memory moves at once.
struct alignas(4 * sizeof(REAL)) Four {
  REAL v[4];
};

// The part of a volume that a block serves: LINES lines of each thread, planes low to high.
template <int LINES>
struct Tile {
  static constexpr int kHigh = kThreads / kWide * LINES;
  int nz, ny, nx, x0, y0, low, high;

  __device__ __forceinline__ Tile(const LnccShape& s, long long depth)
      : nz(static_cast<int>(s.size[0])), ny(static_cast<int>(s.size[1])),
        nx(static_cast<int>(s.size[2])) {
    const unsigned tiles = (nx + kWide - 1) / kWide;
    x0 = blockIdx.x % tiles * kWide;
    y0 = blockIdx.x / tiles * kHigh;
    low = static_cast<int>(blockIdx.y * depth);
    high = static_cast<int>(low + depth < nz ? low + depth : nz);
  }

  __device__ __forceinline__ int x() const { return x0 + static_cast<int>(threadIdx.x) % kWide; }
  __device__ __forceinline__ int y(int row) const {
    return y0 + static_cast<int>(threadIdx.x) / kWide * LINES + row;
  }
  __device__ __forceinline__ bool inside(int row) const { return x() < nx && y(row) < ny; }
  // of the first sample of this thread, in the volume
  __device__ __forceinline__ long long where() const {
    return (static_cast<long long>(low) * ny + y(0)) * nx + x();
  }
};

// A volume as it is summed.
struct Source {
  const REAL* from;
  REAL centre, factor;
};

constexpr INDEX kNone = static_cast<INDEX>(-1);

// Window sums of F fields that are made of N volumes: `source(n)` is one of them, `field(f, v)`
// a field at a sample, `sink(z, row, where, sums)` takes the sums around a thread's sample.
template <int N, int F, int LINES, class Sources, class Field, class Sink>
__device__ __forceinline__ void march(const Tile<LINES>& tile, const Window& w,
                                      const Sources& source, const Field& field,
                                      const Sink& sink) {
  constexpr int kTall = Tile<LINES>::kHigh + 2 * RADIUS, kBroad = kWide + 2 * RADIUS;
  constexpr int kFours = (4 + 2 * RADIUS + 3) / 4, kQuads = kWide / 4;
  constexpr int kLoads = (kTall * kBroad + kThreads - 1) / kThreads;
  static_assert(kTall * kQuads <= kThreads, "a thread sums four samples along x");
  __shared__ Four raw[N][kTall][kQuads - 1 + kFours];
  __shared__ Four lines[F][kTall][kQuads];
  const int t = threadIdx.x, plane_x = t % kWide, plane_y = t / kWide * LINES;
  INDEX place[kLoads];  // in the plane, of what this thread fetches; none beyond
#pragma unroll
  for (int k = 0; k < kLoads; ++k) {
    const int n = t + k * kThreads, j = n / kBroad, i = n % kBroad;
    const int y = tile.y0 + j - RADIUS, x = tile.x0 + i - RADIUS;
    const bool there = j < kTall && y >= 0 && y < tile.ny && x >= 0 && x < tile.nx;
    place[k] = there ? static_cast<INDEX>(y) * tile.nx + x : kNone;
  }
  const long long plane = static_cast<long long>(tile.ny) * tile.nx;
  Source own[N];
#pragma unroll
  for (int n = 0; n < N; ++n) {
    own[n] = source(n);
    own[n].from += (tile.low - kDeep) * plane;
  }
  REAL next[N][kLoads];
  auto fetch = [&](int z) {
    const bool there = z >= 0 && z < tile.nz;  // the same for all threads of the block
#pragma unroll
    for (int n = 0; n < N; ++n) {
#pragma unroll
      for (int k = 0; k < kLoads; ++k)
        next[n][k] = there && place[k] != kNone
                         ? (own[n].from[place[k]] - own[n].centre) * own[n].factor
                         : REAL(0);
      own[n].from += plane;
    }
  };
  long long where = tile.where();
  REAL ahead[LINES][F][kDeep > 0 ? 2 * kDeep : 1] = {};
  fetch(tile.low - kDeep);
  for (int z = tile.low - kDeep; z < tile.high + kDeep; ++z) {
#pragma unroll
    for (int k = 0; k < kLoads; ++k) {
      const int n = t + k * kThreads, j = n / kBroad, i = n % kBroad;
#pragma unroll
      for (int m = 0; m < N; ++m)
        if (j < kTall) raw[m][j][i / 4].v[i % 4] = next[m][k];
    }
    __syncthreads();
    if (z + 1 < tile.high + kDeep) fetch(z + 1);
    if (t < kTall * kQuads) {
      const int j = t / kQuads, quad = t % kQuads;
      REAL in[N][4 * kFours];
#pragma unroll
      for (int n = 0; n < N; ++n)
#pragma unroll
        for (int k = 0; k < kFours; ++k) {
          const Four four = raw[n][j][quad + k];
#pragma unroll
          for (int l = 0; l < 4; ++l) in[n][4 * k + l] = four.v[l];
        }
#pragma unroll
      for (int f = 0; f < F; ++f) {
        REAL line[4 + 2 * RADIUS];
#pragma unroll
        for (int k = 0; k < 4 + 2 * RADIUS; ++k) {
          REAL v[N];
#pragma unroll
          for (int n = 0; n < N; ++n) v[n] = in[n][k];
          line[k] = field(f, v);
        }
        Four four;
        windows<4>(w, line, four.v);
        lines[f][j][quad] = four;
      }
    }
    __syncthreads();
    REAL sum[LINES][F];
#pragma unroll
    for (int f = 0; f < F; ++f) {
      REAL line[LINES + 2 * RADIUS], along[LINES];
#pragma unroll
      for (int k = 0; k < LINES + 2 * RADIUS; ++k)
        line[k] = lines[f][plane_y + k][plane_x / 4].v[plane_x % 4];
      windows<LINES>(w, line, along);
#pragma unroll
      for (int row = 0; row < LINES; ++row) sum[row][f] = along[row];
    }
    if (z - kDeep >= tile.low) {
#pragma unroll
      for (int row = 0; row < LINES; ++row) {
        REAL around[F];
#pragma unroll
        for (int f = 0; f < F; ++f)
          around[f] = kDeep ? ahead[row][f][0] + tap(w, 0) * sum[row][f] : sum[row][f];
        if (tile.inside(row)) sink(z - kDeep, row, where + row * tile.nx, around);
      }
      where += plane;
    }
#pragma unroll
    for (int row = 0; row < LINES; ++row)
#pragma unroll
      for (int f = 0; f < F; ++f) {
        REAL* wait = ahead[row][f];
#pragma unroll
        for (int k = 1; k < 2 * kDeep; ++k) wait[k - 1] = wait[k] + tap(w, k) * sum[row][f];
        if (kDeep) wait[kDeep ? 2 * kDeep - 1 : 0] = tap(w, 0) * sum[row][f];
      }
  }
}

}  // namespace fireants

using namespace fireants;

// parts (rows, blocks per row): sums of the weighted scores. EXACT: `out` (SLOPES, rows, channels,
// z, y, x) gets the slopes of the windows, each divided by the window's count; otherwise `out` and
// `fixed_out` get the approximate gradients. counts: one over the sum of the weights that lie in the
// image, of the places along z, y and x, one after the other.
extern "C" __global__ void __launch_bounds__(256, kBlocks)
lncc_windows(LnccShape s, long long depth, Window w, const REAL* __restrict__ counts, Inputs from,
             const REAL* __restrict__ weight, double* __restrict__ parts, REAL* __restrict__ out,
             REAL* __restrict__ fixed_out) {
  const Tile<ROWS> tile(s, depth);
  const Volume own(s, from, blockIdx.z);
  const Weight by(s, weight, blockIdx.z);
  const long long voxels = voxels_of(s), start = blockIdx.z * voxels, all = gridDim.z * voxels;
  REAL within[ROWS] = {};  // one over the count, without its part along z
#pragma unroll
  for (int row = 0; row < ROWS; ++row)
    if (!MASK && tile.inside(row))
      within[row] = counts[tile.nz + tile.y(row)] * counts[tile.nz + tile.ny + tile.x()];
  REAL value = REAL(0);
  march<kImages, kSums>(
      tile, w,
      [&](int n) {
        return n < 2 ? Source{own.image[n], own.centre[n], own.factor[n]}
                     : Source{own.image[n], REAL(0), REAL(1)};
      },
      [](int f, const REAL* v) { return product(f, v); },
      [&](int z, int row, long long where, const REAL* sum) {
        const REAL inverse = MASK ? inverse_count(sum[kSums - 1]) : within[row] * counts[z];
        const REAL own_weight = by.at(where);
        REAL slope[kSlopes];
        value += correlate(s, sum, inverse, own_weight, EXACT ? own_weight * inverse : own_weight,
                           slope);
        if (SLOPES == 0) return;
        if (EXACT) {
#pragma unroll
          for (int f = 0; f < SLOPES; ++f) out[f * all + start + where] = slope[f];
        } else {
          write_gradients(own, where, slope, out + start, fixed_out + start);
        }
      });
  const double sum = over_block(static_cast<double>(value), Sum());
  if (threadIdx.x == 0)
    parts[(static_cast<long long>(blockIdx.z) * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x] =
        sum;
}
FIREANTS_KERNEL(lncc_windows)

#if SLOPES > 0 && EXACT
// The gradients from the slopes of all windows.
extern "C" __global__ void __launch_bounds__(256, kBlocks)
lncc_gradients(LnccShape s, long long depth, Window w, Inputs from,
               const REAL* __restrict__ slopes, REAL* __restrict__ by_moving,
               REAL* __restrict__ by_fixed) {
  const Tile<BACK_ROWS> tile(s, depth);
  const Volume own(s, from, blockIdx.z);
  const long long voxels = voxels_of(s), start = blockIdx.z * voxels, all = gridDim.z * voxels;
  march<SLOPES, SLOPES>(
      tile, w, [&](int n) { return Source{slopes + n * all + start, REAL(0), REAL(1)}; },
      [](int f, const REAL* v) { return v[f]; },
      [&](int, int, long long where, const REAL* sum) {
        write_gradients(own, where, sum, by_moving + start, by_fixed + start);
      });
}
FIREANTS_KERNEL(lncc_gradients)
#endif
