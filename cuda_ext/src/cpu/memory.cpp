// Memory for results: whole huge pages, since touching a fresh volume page by page costs more than
// most kernels. `native/memory.py` keeps and lends them again.
#include <cstdint>
#include <cstdlib>

#include "cpu/api.h"
#if defined(__linux__)
#include <sys/mman.h>
#endif
#if defined(_WIN32)
#include <malloc.h>
#endif

namespace {
constexpr uint64_t kPage = uint64_t(1) << 21;
}

FIREANTS_API void* fireants_allocate(uint64_t bytes) {
  const uint64_t whole = (bytes + kPage - 1) / kPage * kPage;
#if defined(_WIN32)
  return _aligned_malloc(whole, kPage);
#else
  void* block = nullptr;
  if (posix_memalign(&block, kPage, whole)) return nullptr;
#if defined(__linux__)
  madvise(block, whole, MADV_HUGEPAGE);  // a hint: without it the pages are small
#endif
  return block;
#endif
}

FIREANTS_API void fireants_release(void* block) {
#if defined(_WIN32)
  _aligned_free(block);
#else
  std::free(block);
#endif
}
