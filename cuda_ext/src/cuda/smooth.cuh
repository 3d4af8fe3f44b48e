// Separable smoothing. The taps come as numbers: whatever their shape, Gaussian, box or the adjoint
// of one, the same passes apply them. All sums run in one order.
//
// w: the 2 radius + 1 taps of an axis; f: for each of its samples what the sum there is multiplied
// by or, in the adjoint, what the sample is multiplied by before it is summed.
#include "common.cuh"

using namespace fireants;

#if defined(RX)
// All axes in one pass, for radii RX, RY, RZ known here. A block owns a tile of kWide x kHigh
// columns and marches along z; what it has smoothed of a plane waits in registers for its turn.
constexpr int kWide = 32, kHigh = kThreads / kWide;

extern "C" __global__ void __launch_bounds__(256)
smooth_tile(long long nz, long long ny, long long nx, long long chunk,
            long long adjoint,
            const REAL* __restrict__ wz, const REAL* __restrict__ wy, const REAL* __restrict__ wx,
            const REAL* __restrict__ fz, const REAL* __restrict__ fy, const REAL* __restrict__ fx,
            const REAL* __restrict__ field, REAL* __restrict__ out) {
  __shared__ REAL raw[kHigh + 2 * RY][kWide + 2 * RX];
  __shared__ REAL rows[kHigh + 2 * RY][kWide];
  const long long tiles = (nx + kWide - 1) / kWide;
  const long long x0 = blockIdx.x % tiles * kWide, y0 = blockIdx.x / tiles * kHigh;
  const int tx = threadIdx.x % kWide, ty = threadIdx.x / kWide;
  const long long x = x0 + tx, y = y0 + ty;
  const bool inside = x < nx && y < ny;
  const long long low = blockIdx.y * chunk, high = low + chunk < nz ? low + chunk : nz;
  const REAL* from = field + blockIdx.z * nz * ny * nx;
  REAL* to = out + blockIdx.z * nz * ny * nx;
  REAL ring[2 * RZ + 1] = {};
  for (long long z = low - RZ; z < high + RZ; ++z) {
    REAL value = REAL(0);
    if (z >= 0 && z < nz) {  // the same for all threads of the block
      const REAL by_z = adjoint ? fz[z] : REAL(1);
      for (int k = threadIdx.x; k < (kHigh + 2 * RY) * (kWide + 2 * RX); k += kThreads) {
        const int j = k / (kWide + 2 * RX), i = k % (kWide + 2 * RX);
        const long long yy = y0 + j - RY, xx = x0 + i - RX;
        const bool there = yy >= 0 && yy < ny && xx >= 0 && xx < nx;
        REAL v = there ? from[(z * ny + yy) * nx + xx] : REAL(0);
        if (adjoint && there) v *= by_z * fy[yy] * fx[xx];
        raw[j][i] = v;
      }
      __syncthreads();
      const REAL by_x = adjoint || x >= nx ? REAL(1) : fx[x];
      for (int j = ty; j < kHigh + 2 * RY; j += kHigh) {
        REAL sum = REAL(0);
        for (int i = 0; i <= 2 * RX; ++i) sum += wx[i] * raw[j][tx + i];
        rows[j][tx] = sum * by_x;
      }
      __syncthreads();
      for (int j = 0; j <= 2 * RY; ++j) value += wy[j] * rows[ty + j][tx];
      if (!adjoint && inside) value *= fy[y];
    }
#pragma unroll
    for (int k = 0; k < 2 * RZ; ++k) ring[k] = ring[k + 1];
    ring[2 * RZ] = value;
    const long long at = z - RZ;
    if (inside && at >= low && at < high) {
      REAL sum = REAL(0);
#pragma unroll
      for (int k = 0; k <= 2 * RZ; ++k) sum += wz[k] * ring[k];
      to[(at * ny + y) * nx + x] = adjoint ? sum : sum * fz[at];
    }
  }
}
FIREANTS_KERNEL(smooth_tile)
#endif

// One axis of any radius: samples are `stride` apart, n along the axis. Launched once per axis.
extern "C" __global__ void __launch_bounds__(256)
smooth_axis(long long total, long long n, long long stride, long long radius,
            long long adjoint,
            const REAL* __restrict__ weight, const REAL* __restrict__ factor,
            const REAL* __restrict__ field, REAL* __restrict__ out) {
  for (long long k = thread_id(); k < total; k += thread_count()) {
    const long long i = k / stride % n;
    const long long low = i < radius ? i : radius, high = n - 1 - i < radius ? n - 1 - i : radius;
    REAL sum = REAL(0);
    for (long long j = -low; j <= high; ++j) {
      const REAL value = field[k + j * stride];
      sum += weight[radius + j] * (adjoint ? value * factor[i + j] : value);
    }
    out[k] = adjoint ? sum : sum * factor[i];
  }
}
FIREANTS_KERNEL(smooth_axis)
