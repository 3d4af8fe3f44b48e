// Labels between the samples of a label map: the neighbours vote with their linear weights.
#include <algorithm>

#include "cpu/api.h"
#include "cpu/pool.h"
#include "labels.h"

namespace fireants {
namespace {

constexpr int64_t kSamples = 4096;  // of a piece

template <class T, class Label, int D>
void vote_all(const LabelShape& s, const Label* labels, const T* coords, Label* out) {
  const int64_t pieces = (s.samples + kSamples - 1) / kSamples;
  parallel(pieces, s.threads, [&](int64_t piece, int) {
    const int64_t stop = std::min(s.samples, (piece + 1) * kSamples);
    for (int64_t i = piece * kSamples; i < stop; ++i)
      out[i] = vote<T, Label, D>(s, labels, coords + i);
  });
}

template <class T, class Label>
void of_dim(const LabelShape& s, const void* labels, const T* coords, void* out) {
  if (s.dim == 3)
    vote_all<T, Label, 3>(s, static_cast<const Label*>(labels), coords, static_cast<Label*>(out));
  else
    vote_all<T, Label, 2>(s, static_cast<const Label*>(labels), coords, static_cast<Label*>(out));
}

template <class T>
int of_kind(const LabelShape& s, const void* labels, const T* coords, void* out) {
  return guarded([&] {
    switch (s.kind) {
      case kUint8: return of_dim<T, uint8_t>(s, labels, coords, out);
      case kInt8: return of_dim<T, int8_t>(s, labels, coords, out);
      case kInt16: return of_dim<T, int16_t>(s, labels, coords, out);
      case kInt32: return of_dim<T, int32_t>(s, labels, coords, out);
      default: return of_dim<T, int64_t>(s, labels, coords, out);
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
