// Determinants of the Jacobian of x + u(x): central differences, and the strict test for folds. A
// thread marches along the slowest axis: of the samples around a voxel only those one plane on are
// new to the device's caches.
//
// WIDTH threads of a block lie along the last axis, all of them in 2D; PLANES: how far they march.
#include "common.cuh"

namespace fireants {

constexpr int kHeight = kThreads / WIDTH;
static_assert(DIM == 3 || kHeight == 1, "an image of 2 axes has one line per plane");

// u of one component at a voxel and its neighbours along one axis, as d(phi)/d(axis) of that
// component. `one` is 1 where the component is the axis's, else 0.
struct Around {
  REAL low, here, high;
  bool has_low, has_high;  // the border has the difference that there is, one sample has none

  __device__ __forceinline__ REAL backward(REAL one) const {
    return (has_low ? here - low : (has_high ? high - here : REAL(0))) + one;
  }

  __device__ __forceinline__ REAL forward(REAL one) const {
    return (has_high ? high - here : (has_low ? here - low : REAL(0))) + one;
  }

  __device__ __forceinline__ REAL central(REAL one) const {
    return has_low && has_high ? (high - low) * REAL(0.5) + one : forward(one);
  }
};

// body(voxel, around[axis][component]) for every voxel of the thread; `field` (DIM, voxels).
template <class Body>
__device__ __forceinline__ void march(const JacobianShape& s, const REAL* __restrict__ field,
                                      Body body) {
  const int nx = static_cast<int>(s.size[2]), ny = DIM == 3 ? static_cast<int>(s.size[1]) : 1;
  const int planes = static_cast<int>(s.size[3 - DIM]);
  const long long plane = static_cast<long long>(ny) * nx, voxels = plane * planes;
  const int across = (nx + WIDTH - 1) / WIDTH, down = (ny + kHeight - 1) / kHeight;
  const int x = blockIdx.x % across * WIDTH + threadIdx.x % WIDTH;
  const int y = blockIdx.x / across % down * kHeight + threadIdx.x / WIDTH;
  const int first = blockIdx.x / across / down * PLANES, last = min(first + PLANES, planes);
  if (x >= nx || y >= ny) return;
  long long at = first * plane + static_cast<long long>(y) * nx + x;
  REAL low[DIM], here[DIM];
  for (int i = 0; i < DIM; ++i) {
    here[i] = field[i * voxels + at];
    low[i] = first > 0 ? field[i * voxels + at - plane] : here[i];
  }
  for (int z = first; z < last; ++z, at += plane) {
    Around around[DIM][DIM];
    const bool left = x > 0, right = x + 1 < nx, up = y > 0, below = y + 1 < ny;
    for (int i = 0; i < DIM; ++i) {
      const REAL* own = field + i * voxels + at;
      const REAL high = z + 1 < planes ? own[plane] : here[i];
      around[0][i] = {low[i], here[i], high, z > 0, z + 1 < planes};
      if (DIM == 3) around[1][i] = {own[up ? -nx : 0], here[i], own[below ? nx : 0], up, below};
      around[DIM - 1][i] = {own[left ? -1 : 0], here[i], own[right ? 1 : 0], left, right};
      low[i] = here[i];
      here[i] = high;
    }
    body(at, around);
  }
}

// Of the matrix with these rows, in the order of `kernels.jacobian`; 2D ignores c. Products
// are rounded: fused, a determinant of about 0 has another sign.
__device__ __forceinline__ REAL determinant(const REAL* a, const REAL* b, const REAL* c) {
  if (DIM == 2) return times(a[0], b[1]) - times(a[1], b[0]);
  const REAL x = times(b[1], c[DIM - 1]) - times(b[DIM - 1], c[1]);
  const REAL y = times(b[0], c[DIM - 1]) - times(b[DIM - 1], c[0]);
  const REAL z = times(b[0], c[1]) - times(b[1], c[0]);
  return times(a[0], x) - times(a[1], y) + times(a[DIM - 1], z);
}

__device__ __forceinline__ REAL one_if(bool same) { return same ? REAL(1) : REAL(0); }

}  // namespace fireants

using namespace fireants;

// det (rows, voxels) by central differences, one-sided at the border; u (rows, DIM, voxels).
extern "C" __global__ void __launch_bounds__(256)
jacobian(JacobianShape s, const REAL* __restrict__ u, REAL* __restrict__ det) {
  const long long voxels = s.size[0] * s.size[1] * s.size[2], row = blockIdx.y;
  march(s, u + row * DIM * voxels, [&](long long at, const Around(&around)[DIM][DIM]) {
    REAL d[DIM][DIM];
    for (int a = 0; a < DIM; ++a)
      for (int i = 0; i < DIM; ++i) d[a][i] = around[a][i].central(one_if(i == a));
    det[row * voxels + at] = determinant(d[0], d[1], d[DIM - 1]);
  });
}
FIREANTS_KERNEL(jacobian)

// mask (rows, voxels): 1 where any of the 2^DIM one-sided determinants is not positive, else 0.
extern "C" __global__ void __launch_bounds__(256)
folds(JacobianShape s, const REAL* __restrict__ u, unsigned char* __restrict__ mask) {
  const long long voxels = s.size[0] * s.size[1] * s.size[2], row = blockIdx.y;
  march(s, u + row * DIM * voxels, [&](long long at, const Around(&around)[DIM][DIM]) {
    REAL d[DIM][2][DIM];
    for (int a = 0; a < DIM; ++a)
      for (int i = 0; i < DIM; ++i) {
        d[a][0][i] = around[a][i].backward(one_if(i == a));
        d[a][1][i] = around[a][i].forward(one_if(i == a));
      }
    bool folded = false;
    for (int choice = 0; choice < (1 << DIM); ++choice) {
      const REAL *a = d[0][choice & 1], *b = d[1][choice >> 1 & 1];
      const REAL det = determinant(a, b, d[DIM - 1][DIM == 3 ? choice >> 2 : 0]);
      folded = folded | !(det > REAL(0));
    }
    mask[row * voxels + at] = folded;
  });
}
FIREANTS_KERNEL(folds)
