// Labels between the samples of a label map. LABEL is the type of a label.
#include "common.cuh"
#include "labels.h"

using namespace fireants;

// coords (DIM, samples) -> out (samples)
extern "C" __global__ void __launch_bounds__(256)
label_vote(LabelShape s, const LABEL* __restrict__ labels, const REAL* __restrict__ coords,
           LABEL* __restrict__ out) {
  for (long long k = thread_id(); k < s.samples; k += thread_count())
    out[k] = vote<REAL, LABEL, DIM>(s, labels, coords + k);
}
FIREANTS_KERNEL(label_vote)
