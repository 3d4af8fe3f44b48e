// Labels between the samples of a label map: the neighbours vote with their linear weights.
#include <algorithm>
#include <cmath>

#include "cpu/api.h"
#include "cpu/pool.h"

namespace fireants {
namespace {

constexpr int64_t kSamples = 4096;  // of a piece

// The label with the largest sum of weights; of those within 1e-6 of it the smallest.
template <class T, class Label, int N>
Label elected(const Label* label, const T* weight) {
  T total[N], top = 0;
  for (int j = 0; j < N; ++j) {
    total[j] = 0;
    for (int k = 0; k < N; ++k) total[j] += label[k] == label[j] ? weight[k] : T(0);
    top = std::max(top, total[j]);
  }
  Label best = label[0];
  bool found = false;
  for (int j = 0; j < N; ++j) {
    if (!(total[j] >= top - T(1e-6)) || (found && label[j] >= best)) continue;
    best = label[j];
    found = true;
  }
  return best;
}

template <class T, class Label, int D>
void vote(const LabelShape& s, const Label* labels, const T* coords, Label* out) {
  constexpr int N = 1 << D;
  int64_t stride[D], step = 1;
  for (int a = D - 1; a >= 0; --a) {
    stride[a] = step;
    step *= s.size[a + 3 - D];
  }
  const int64_t pieces = (s.samples + kSamples - 1) / kSamples;
  parallel(pieces, s.threads, [&](int64_t piece, int) {
    const int64_t stop = std::min(s.samples, (piece + 1) * kSamples);
    for (int64_t i = piece * kSamples; i < stop; ++i) {
      int64_t place[D][2];
      T share[D][2];
      for (int a = 0; a < D; ++a) {
        const T c = coords[a * s.samples + i], top = static_cast<T>(s.size[a + 3 - D] - 1);
        const T low = std::floor(c);
        share[a][1] = c - low;
        share[a][0] = T(1) - share[a][1];
        for (int side = 0; side < 2; ++side) {
          const T at = low + static_cast<T>(side);
          place[a][side] = static_cast<int64_t>(at > T(0) ? std::min(at, top) : T(0)) * stride[a];
        }
      }
      Label label[N];
      bool mixed = false;
      for (int k = 0; k < N; ++k) {
        int64_t at = 0;
        for (int a = 0; a < D; ++a) at += place[a][(k >> a) & 1];
        label[k] = labels[at];
        mixed = mixed || label[k] != label[0];
      }
      if (!mixed) {
        out[i] = label[0];
        continue;
      }
      T weight[N];
      for (int k = 0; k < N; ++k) {
        weight[k] = share[0][k & 1];
        for (int a = 1; a < D; ++a) weight[k] *= share[a][(k >> a) & 1];
      }
      out[i] = elected<T, Label, N>(label, weight);
    }
  });
}

template <class T, class Label>
void vote(const LabelShape& s, const void* labels, const T* coords, void* out) {
  if (s.dim == 3)
    vote<T, Label, 3>(s, static_cast<const Label*>(labels), coords, static_cast<Label*>(out));
  else
    vote<T, Label, 2>(s, static_cast<const Label*>(labels), coords, static_cast<Label*>(out));
}

template <class T>
int of_kind(const LabelShape& s, const void* labels, const T* coords, void* out) {
  return guarded([&] {
    switch (s.kind) {
      case kUint8: return vote<T, uint8_t>(s, labels, coords, out);
      case kInt8: return vote<T, int8_t>(s, labels, coords, out);
      case kInt16: return vote<T, int16_t>(s, labels, coords, out);
      case kInt32: return vote<T, int32_t>(s, labels, coords, out);
      default: return vote<T, int64_t>(s, labels, coords, out);
    }
  });
}

}  // namespace
}  // namespace fireants

FIREANTS_API int fireants_label_vote_f32(const fireants::LabelShape* s, const void* labels,
                                         const float* coords, void* out) {
  return fireants::of_kind(*s, labels, coords, out);
}

FIREANTS_API int fireants_label_vote_f64(const fireants::LabelShape* s, const void* labels,
                                         const double* coords, void* out) {
  return fireants::of_kind(*s, labels, coords, out);
}
