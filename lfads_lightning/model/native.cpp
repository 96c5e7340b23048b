// The recurrences of LFADS, forward and backward, float32; on request, products have bf16 factors.
// Called by native.py through ctypes.
//
// A thread takes a part of the trials through all time bins, so there is no barrier per bin, and the
// next part when it is done. Per bin there are only products (sgemm, torch's own BLAS, handed over by
// address; in bf16 our own) and elementwise loops between them. Arrays are time-major: (T, B, n). A
// GRU's buffer (T, B, 3n) holds [reset | update | candidate]: activations after the forward pass,
// gradients of the projected inputs after the backward pass. Gradients of recurrent weights are summed
// bin by bin, while what goes into them is in the cache; the other products for weights are left to
// the caller: one large one each.

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <new>
#include <vector>

#if defined(__x86_64__) && (defined(__clang__) ? __clang_major__ >= 14 : __GNUC__ >= 11)
#define LFADS_BF16 1
#include <immintrin.h>
#endif

namespace {

using Sgemm = void (*)(const char*, const char*, const int*, const int*, const int*, const float*,
                       const float*, const int*, const float*, const int*, const float*, float*,
                       const int*);
Sgemm sgemm = nullptr;

// How long products take, of all threads; looked at by benchmarks/step.py alone.
bool times_products = false;
std::atomic<long long> product_ns{0};
struct Timed {
  using Clock = std::chrono::steady_clock;
  Clock::time_point start;
  Timed() {
    if (times_products) start = Clock::now();
  }
  ~Timed() {
    if (times_products)
      product_ns += std::chrono::nanoseconds(Clock::now() - start).count();
  }
};

// C (m, n) = beta C + A (m, k) B, row-major; B is (k, n), or (n, k) where transposed.
void gemm(int m, int n, int k, const float* a, int lda, const float* b, int ldb, bool transposed,
          float beta, float* c, int ldc) {
  if (m == 0 || n == 0) return;
  const Timed timed;
  const float one = 1.0f;
  sgemm(transposed ? "T" : "N", "N", &n, &m, &k, &one, b, &ldb, a, &lda, &beta, c, &ldc);
}

// C (m, n) += A^T B, row-major; A is (k, m), B is (k, n)
void add_outer(int m, int n, int k, const float* a, int lda, const float* b, int ldb, float* c) {
  if (m == 0 || n == 0 || k == 0) return;
  const Timed timed;
  const float one = 1.0f;
  sgemm("N", "T", &n, &m, &k, &one, b, &ldb, a, &lda, &one, c, &n);
}

// Products of bf16 factors, summed in float32, for processors with avx512_bf16. vdpbf16ps adds
// products of pairs, so factors lie in memory as pairs: two bf16 of neighbouring k, the lower k in
// the lower half.
constexpr std::align_val_t ON_A_LINE{64};
constexpr int VECTOR = 16, PANEL = 2 * VECTOR, TILE = 12;  // columns, columns, rows

struct Free {
  void operator()(void* p) const { ::operator delete(p, ON_A_LINE); }
};
struct Pairs {  // on a cache line of its own, or a load would touch two
  std::unique_ptr<uint32_t, Free> memory;
  size_t size = 0;
  uint32_t* at_least(size_t n) {
    if (n > size) {
      memory.reset(static_cast<uint32_t*>(::operator new(n * sizeof(uint32_t), ON_A_LINE)));
      size = n;
    }
    return memory.get();
  }
};
inline int half(int k) { return (k + 1) / 2; }

#ifdef LFADS_BF16
#define WITH_BF16 __attribute__((target("avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")))

inline bool has_bf16() { return __builtin_cpu_supports("avx512bf16"); }

WITH_BF16 inline __mmask16 first_of(int n) {
  return static_cast<__mmask16>(n >= VECTOR ? 0xffff : n <= 0 ? 0 : (1 << n) - 1);
}

// Rows of x (rows, k) as pairs along a row: (rows, half(k)).
WITH_BF16 void pair_rows(int rows, int k, const float* x, int ld, uint32_t* pairs) {
  const int width = half(k);
  for (int i = 0; i < rows; ++i, x += ld, pairs += width) {
    int j = 0;
    for (; j + PANEL <= k; j += PANEL) {
      const __m512bh both =
          _mm512_cvtne2ps_pbh(_mm512_loadu_ps(x + j + VECTOR), _mm512_loadu_ps(x + j));
      _mm512_storeu_si512(pairs + j / 2, (__m512i)both);
    }
    if (j < k) {
      const __m512 low = _mm512_maskz_loadu_ps(first_of(k - j), x + j);
      const __m512 high = _mm512_maskz_loadu_ps(first_of(k - j - VECTOR), x + j + VECTOR);
      _mm512_mask_storeu_epi32(pairs + j / 2, first_of(half(k - j)),
                               (__m512i)_mm512_cvtne2ps_pbh(high, low));
    }
  }
}

// x (k, n) as pairs of neighbouring rows: pair p of column j goes to pairs[j / 32 * panel + p * next +
// j % 32].
WITH_BF16 void pair_columns(int k, int n, const float* x, int ld, uint32_t* pairs, long panel,
                            long next) {
  for (int p = 0; p < half(k); ++p, pairs += next) {
    const float *even = x + 2L * p * ld, *odd = even + ld;
    const bool has_odd = 2 * p + 1 < k;
    for (int j = 0; j < n; j += VECTOR) {
      const __mmask16 inside = first_of(n - j);
      const __m256bh low = _mm512_cvtneps_pbh(_mm512_maskz_loadu_ps(inside, even + j));
      const __m256bh high =
          _mm512_cvtneps_pbh(_mm512_maskz_loadu_ps(has_odd ? inside : 0, odd + j));
      const __m512i both =
          _mm512_or_si512(_mm512_cvtepu16_epi32((__m256i)low),
                          _mm512_slli_epi32(_mm512_cvtepu16_epi32((__m256i)high), 16));
      _mm512_mask_storeu_epi32(pairs + j / PANEL * panel + j % PANEL, inside, both);
    }
  }
}

// C (ROWS, n), n up to 16 N, = or += A B of so many pairs. Pair p of row i of A: a[i * row + p * next].
template <int ROWS, int N>
WITH_BF16 inline void tile(int pairs, const uint32_t* a, long row, long next, const uint32_t* b,
                           float* c, long ldc, bool adds, __mmask16 last) {
  __m512 sum[ROWS][N];
  for (int i = 0; i < ROWS; ++i)
    for (int j = 0; j < N; ++j)
      sum[i][j] = adds ? _mm512_maskz_loadu_ps(j == N - 1 ? last : 0xffff, c + i * ldc + j * VECTOR)
                       : _mm512_setzero_ps();
  for (int p = 0; p < pairs; ++p, b += PANEL, a += next) {
    __m512bh right[N];
    for (int j = 0; j < N; ++j) right[j] = (__m512bh)_mm512_load_si512(b + j * VECTOR);
#pragma GCC unroll 12
    for (int i = 0; i < ROWS; ++i) {
      // Clang 16 crashes on _mm512_set1_epi32 here
      const __m512bh left =
          (__m512bh)_mm512_broadcastd_epi32(_mm_cvtsi32_si128(static_cast<int>(a[i * row])));
      for (int j = 0; j < N; ++j) sum[i][j] = _mm512_dpbf16_ps(sum[i][j], left, right[j]);
    }
  }
  for (int i = 0; i < ROWS; ++i)
    for (int j = 0; j < N; ++j)
      _mm512_mask_storeu_ps(c + i * ldc + j * VECTOR, j == N - 1 ? last : 0xffff, sum[i][j]);
}

template <int N>
WITH_BF16 void tiles(int rows, int pairs, const uint32_t* a, long row, long next, const uint32_t* b,
                     float* c, long ldc, bool adds, __mmask16 last) {
  const int n_tiles = (rows + TILE - 1) / TILE;
  for (int k = 0; k < n_tiles; ++k) {  // of nearly equal heights
    const long first = static_cast<long>(rows) * k / n_tiles;
    const long height = static_cast<long>(rows) * (k + 1) / n_tiles - first;
    const uint32_t* ak = a + first * row;
    float* ck = c + first * ldc;
    switch (height) {
#define CASE(ROWS) \
  case ROWS:       \
    tile<ROWS, N>(pairs, ak, row, next, b, ck, ldc, adds, last); \
    break;
      CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6)
      CASE(7) CASE(8) CASE(9) CASE(10) CASE(11) CASE(12)
#undef CASE
    }
  }
}

// C (rows, n) = or += A B; B in panels of 32 columns, of `stride` pairs each.
WITH_BF16 void multiply(int rows, int n, int pairs, const uint32_t* a, long row, long next,
                        const uint32_t* b, long stride, float* c, long ldc, bool adds) {
  for (int j = 0; j < n; j += PANEL, b += stride * PANEL) {
    const int width = n - j < PANEL ? n - j : PANEL;
    if (width > VECTOR)
      tiles<2>(rows, pairs, a, row, next, b, c + j, ldc, adds, first_of(width - VECTOR));
    else
      tiles<1>(rows, pairs, a, row, next, b, c + j, ldc, adds, first_of(width));
  }
}

#else
inline bool has_bf16() { return false; }
void pair_rows(int, int, const float*, int, uint32_t*) {}
void multiply(int, int, int, const uint32_t*, long, long, const uint32_t*, long, float*, long, bool) {}
void pair_columns(int, int, const float*, int, uint32_t*, long, long) {}
#endif

size_t panels_size(int pairs, int n) {
  return static_cast<size_t>((n + PANEL - 1) / PANEL) * PANEL * pairs;
}

// The right factor of products, (k, n): float32, or packed as bf16 for a whole pass.
struct Factor {
  const float* w;
  int k, n, ld;
  bool transposed;  // w is (n, k)
  Pairs packed;

  Factor(bool bf16, const float* w, int k, int n, int ld, bool transposed = false)
      : w(w), k(k), n(n), ld(ld), transposed(transposed) {
    if (!bf16 || !w || k == 0 || n == 0) return;
    uint32_t* to = packed.at_least(panels_size(half(k), n));
    if (!transposed) {
      pair_columns(k, n, w, ld, to, static_cast<long>(half(k)) * PANEL, PANEL);
      return;
    }
    Pairs row;
    row.at_least(half(k));
    for (int j = 0; j < n; ++j) {
      pair_rows(1, k, w + static_cast<long>(j) * ld, ld, row.memory.get());
      uint32_t* column = to + static_cast<long>(j / PANEL) * half(k) * PANEL + j % PANEL;
      for (int p = 0; p < half(k); ++p) column[p * PANEL] = row.memory.get()[p];
    }
  }
};

// C (rows, n) = beta C + A (rows, k) B; beta is 0 or 1
void product(int rows, const float* a, int lda, const Factor& b, float beta, float* c, int ldc) {
  if (!b.packed.size) return gemm(rows, b.n, b.k, a, lda, b.w, b.ld, b.transposed, beta, c, ldc);
  const Timed timed;
  static thread_local Pairs pairs;
  const int width = half(b.k);
  uint32_t* left = pairs.at_least(static_cast<size_t>(rows) * width);
  pair_rows(rows, b.k, a, lda, left);
  multiply(rows, b.n, width, left, width, 1, b.packed.memory.get(), width, c, ldc, beta != 0.0f);
}

// C (m, n) += the sum over rows of A^T B, A (rows, m), B (rows, n); in bf16, of 64 pairs or more at
// a time (at the end fewer), since C is read and written each time.
struct Outer {
  static constexpr int AT_LEAST = 64;
  bool bf16;
  int m, n, ldc, filled = 0, most = 0;
  float* c;
  Pairs a_pairs, b_pairs;

  Outer(bool bf16, int m, int n, float* c, int ldc)
      : bf16(bf16), m(m), n(n), ldc(ldc), c(c) {}
  void add(int rows, const float* a, int lda, const float* b, int ldb) {
    if (!bf16) return add_outer(m, n, rows, a, lda, b, ldb, c);
    if (m == 0 || n == 0 || rows == 0) return;
    const int more = half(rows);
    if (filled + more > most) {
      flush();
      if (more > most) {
        most = more >= AT_LEAST ? more : (AT_LEAST + more - 1) / more * more;
        a_pairs.at_least(static_cast<size_t>(most) * m);
        b_pairs.at_least(panels_size(most, n));
      }
    }
    const Timed timed;
    pair_columns(rows, m, a, lda, a_pairs.memory.get() + static_cast<long>(filled) * m, PANEL, m);
    pair_columns(rows, n, b, ldb, b_pairs.memory.get() + static_cast<long>(filled) * PANEL,
                 static_cast<long>(most) * PANEL, PANEL);
    filled += more;
  }
  void flush() {
    if (!filled) return;
    const Timed timed;
    multiply(m, n, filled, a_pairs.memory.get(), 1, m, b_pairs.memory.get(), most, c, ldc, true);
    filled = 0;
  }
};

// exp to about 2e-7 relative; plain arithmetic, so that compilers vectorise the loops that call it
inline float fast_exp(float x) {
  x = x < -87.0f ? -87.0f : x;
  x = x > 88.0f ? 88.0f : x;
  const float scaled = x * 1.44269504088896341f;
  const float shifted = scaled + 12582912.0f;  // 1.5 * 2^23: rounds to an integer
  const float n = shifted - 12582912.0f;
  const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  const int bits = (static_cast<int>(n) + 127) << 23;
  float power;
  std::memcpy(&power, &bits, sizeof power);
  return p * power;
}
// log(x!): a table for the counts that occur; lgamma, which is slow, for the rest
const std::vector<float> small_factorials = [] {
  std::vector<float> values(256);
  for (size_t n = 0; n < values.size(); ++n) values[n] = static_cast<float>(std::lgamma(n + 1.0));
  return values;
}();
inline float log_factorial(float x) {
  const int n = x < 256.0f ? static_cast<int>(x) : 0;
  return static_cast<float>(n) == x ? small_factorials[n] : static_cast<float>(std::lgamma(x + 1.0));
}
inline float sigmoid(float x) { return 1.0f / (1.0f + fast_exp(-x)); }
inline float tanh_(float x) { return 1.0f - 2.0f / (1.0f + fast_exp(2.0f * x)); }
inline float clamp(float x, float bound) { return x > bound ? bound : (x < -bound ? -bound : x); }

// One bin of a GRU for `rows` trials. g (rows, 3n) and rh, h_new, h (rows, n); bias (3n). What g
// holds counts where `adds`.
void gru_step(int rows, int n, float* __restrict g, const float* __restrict h,
              const Factor& w_gates, const Factor& w_candidate, const float* __restrict bias,
              bool adds, float clip, float* __restrict rh, float* __restrict h_new) {
  const float beta = adds ? 1.0f : 0.0f;
  product(rows, h, n, w_gates, beta, g, 3 * n);
  for (int i = 0; i < rows; ++i) {
    float* __restrict gi = g + i * 3 * n;
    for (int j = 0; j < 2 * n; ++j) gi[j] = sigmoid(gi[j] + bias[j]);
    for (int j = 0; j < n; ++j) rh[i * n + j] = gi[j] * h[i * n + j];
  }
  product(rows, rh, n, w_candidate, beta, g + 2 * n, 3 * n);
  for (int i = 0; i < rows; ++i) {
    float* __restrict gi = g + i * 3 * n;
    for (int j = 0; j < n; ++j) {
      const float c = tanh_(gi[2 * n + j] + bias[2 * n + j]), u = gi[n + j];
      gi[2 * n + j] = c;
      h_new[i * n + j] = clamp(c + u * (h[i * n + j] - c), clip);
    }
  }
}

// Gradients of one GRU's recurrent weights and biases, summed over one part: gates (n, 2n), candidate
// (n, n), bias (3n), one after the other.
struct Sums {
  Outer gates, candidate;
  float* bias;
  Sums(bool bf16, float* all, int k, int n)
      : gates(bf16, n, 2 * n, all + k * size(n), 2 * n),
        candidate(bf16, n, n, gates.c + 2 * n * n, n),
        bias(candidate.c + n * n) {
    std::memset(gates.c, 0, sizeof(float) * size(n));
  }
  void finish() {
    gates.flush();
    candidate.flush();
  }
  static long size(int n) { return 3L * n * n + 3L * n; }
};

// The GRU's backward pass over a bin. d holds the gradient of the new state and is replaced by that of
// the old one; g is replaced by the gradient of its projections; tmp (rows, n) and (3n).
void gru_step_back(int rows, int n, float* __restrict g, const float* __restrict h,
                   const Factor& w_gates, const Factor& w_candidate, float clip,
                   float* __restrict d, Sums& sums, float* __restrict tmp) {
  for (int i = 0; i < rows; ++i) {
    float* __restrict gi = g + i * 3 * n;
    for (int j = 0; j < n; ++j) {
      const float u = gi[n + j], c = gi[2 * n + j], old = h[i * n + j];
      const float state = c + u * (old - c);
      const float dh = (state > clip || state < -clip) ? 0.0f : d[i * n + j];
      gi[2 * n + j] = dh * (1.0f - u) * (1.0f - c * c);
      gi[n + j] = dh * (old - c) * u * (1.0f - u);
      d[i * n + j] = dh * u;
    }
  }
  product(rows, g + 2 * n, 3 * n, w_candidate, 0.0f, tmp, n);
  for (int i = 0; i < rows; ++i) {
    float* __restrict gi = g + i * 3 * n;
    for (int j = 0; j < n; ++j) {
      const float r = gi[j], drh = tmp[i * n + j], old = h[i * n + j];
      d[i * n + j] += drh * r;
      gi[j] = drh * old * r * (1.0f - r);
      tmp[i * n + j] = r * old;
    }
  }
  sums.candidate.add(rows, tmp, n, g + 2 * n, 3 * n);
  sums.gates.add(rows, h, n, g, 3 * n);
  product(rows, g, 3 * n, w_gates, 1.0f, d, n);
  // a bin's sum by itself first: thousands of terms one by one would round
  std::memset(tmp, 0, sizeof(float) * 3 * n);
  for (int i = 0; i < rows; ++i)
    for (int j = 0; j < 3 * n; ++j) tmp[j] += g[i * 3 * n + j];
  for (int j = 0; j < 3 * n; ++j) sums.bias[j] += tmp[j];
}
size_t scratch(int rows, int n) { return static_cast<size_t>(rows > 3 ? rows : 3) * n; }

struct Block {
  long first;
  int rows;
};
Block block_of(int i, int n_blocks, int n_trials) {
  const long first = static_cast<long>(n_trials) * i / n_blocks;
  return {first, static_cast<int>(static_cast<long>(n_trials) * (i + 1) / n_blocks - first)};
}

// Negative log-likelihood of n counts, one by one but for log(x!), and its gradient in the log-rates.
// Functions of their own: inside an OpenMP region compilers leave such loops scalar.
void poisson_terms(int n, float clip, const float* __restrict l, const float* __restrict x,
                   float* __restrict terms, float* __restrict d) {
  for (int j = 0; j < n; ++j) {
    const float rate = fast_exp(l[j] > clip ? clip : l[j]);
    terms[j] = rate - x[j] * l[j];
    d[j] = (l[j] > clip ? 0.0f : rate) - x[j];
  }
}
float sum_of(int n, const float* __restrict terms) {
  float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
  for (int j = 0; j < n; ++j) sum += terms[j];
  return sum;
}
float log_factorials(int n, const float* __restrict x, const float* weight) {
  float most = 0.0f;
#pragma omp simd reduction(max : most)
  for (int j = 0; j < n; ++j) most = x[j] > most ? x[j] : most;
  float sum = 0.0f;
  if (most > 1.0f)  // 0! = 1! = 1: many bins need no more
    for (int j = 0; j < n; ++j)
      if (x[j] > 1.0f) sum += weight ? weight[j] * log_factorial(x[j]) : log_factorial(x[j]);
  return sum;
}
void weigh(int n, const float* __restrict weight, float* __restrict terms, float* __restrict d) {
  for (int j = 0; j < n; ++j) {
    terms[j] *= weight[j];
    d[j] *= weight[j];
  }
}
template <class Count>
void poisson(int T, int B, int D, float clip, int parts, int threads, const float* log_rates,
             const Count* counts, const float* weight, double* nll, float* d) {
#pragma omp parallel for num_threads(std::min(threads, parts)) schedule(dynamic, 1)
  for (int k = 0; k < parts; ++k) {
    const Block b = block_of(k, parts, B);
    const int n = b.rows * D;
    std::vector<float> x(n), terms(n);
    for (long trial = b.first; trial < b.first + b.rows; ++trial) nll[trial] = 0.0;
    for (int t = 0; t < T; ++t) {
      const long first = (static_cast<long>(t) * B + b.first) * D;
      std::copy(counts + first, counts + first + n, x.begin());
      poisson_terms(n, clip, log_rates + first, x.data(), terms.data(), d + first);
      if (weight) weigh(n, weight + first, terms.data(), d + first);
      for (int i = 0; i < b.rows; ++i) {
        double* sum = nll + b.first + i;
        *sum += sum_of(D, terms.data() + i * D);
        *sum += log_factorials(D, x.data() + i * D, weight ? weight + first + i * D : nullptr);
      }
    }
  }
}

}  // namespace

extern "C" {

void lfads_set_sgemm(void* address) { sgemm = reinterpret_cast<Sgemm>(address); }

// Whether products of bf16 factors are faster on this processor.
int lfads_has_bf16() { return has_bf16(); }

// C (rows, n) = A (rows, m) B^T, B (n, m); in bf16
void lfads_bf16_product(long rows, int m, int n, const float* a, const float* b, float* c,
                        int threads) {
  if (rows == 0 || n == 0) return;
  const Factor right(true, b, m, n, m, true);
  const int parts = static_cast<int>((rows + 255) / 256);
#pragma omp parallel for num_threads(std::min(threads, parts)) schedule(dynamic, 1)
  for (int i = 0; i < parts; ++i) {
    const long first = rows * i / parts, end = rows * (i + 1) / parts;
    product(static_cast<int>(end - first), a + first * m, m, right, 0.0f, c + first * n, n);
  }
}

// C (m, n) = A^T B: A (rows, m), B (rows, n); in bf16. A thread takes some of the columns, so that
// sums do not depend on how many there are.
void lfads_bf16_outer(long rows, int m, int n, const float* a, const float* b, float* c, int threads) {
  if (m == 0 || n == 0) return;
  const int panels = (n + PANEL - 1) / PANEL, parts = std::min(threads, panels);
  std::memset(c, 0, sizeof(float) * m * n);
#pragma omp parallel for num_threads(parts) schedule(dynamic, 1)
  for (int i = 0; i < parts; ++i) {
    const int first = panels * i / parts * PANEL, end = std::min(panels * (i + 1) / parts * PANEL, n);
    Outer sum(true, m, end - first, c + first, n);
    for (long row = 0; row < rows; row += 256)
      sum.add(static_cast<int>(std::min(256L, rows - row)), a + row * m, m, b + row * n + first, n);
    sum.flush();
  }
}

// Time products from now on, or do not; returns the nanoseconds since this was last asked.
long long lfads_product_ns(int timed) {
  times_products = timed;
  return product_ns.exchange(0);
}

// A GRU over all bins, forward: x (T, B, m), w_in (m, 3n), h0 (B, n), bias (3n) -> g (T, B, 3n), h
// (T, B, n); rh (B, n) is scratch; m may be 0. Without `keep`, for a pass that is not gone back, g is
// of one bin. Backward: d_h (T, B, n) gradient of h, or null for 0; d_h0 (B, n) that of the last state;
// g as the forward pass left it -> g: gradient of the projected inputs; d_h0 that of h0; sums (parts,
// Sums::size), a part each.
struct Gru {
  int T, B, n, m, reverse, keep, bf16;
  float clip;
  float *x, *w_in, *g, *h0, *gates, *candidate, *bias, *h, *rh, *d_h, *d_h0, *sums;
};

// The weights that a pass of a GRU multiplies with.
struct GruFactors {
  Factor in, gates, candidate;
  GruFactors(const Gru& p, bool back)
      : in(p.bf16, back ? nullptr : p.w_in, p.m, 3 * p.n, 3 * p.n),
        gates(p.bf16, p.gates, back ? 2 * p.n : p.n, back ? p.n : 2 * p.n, 2 * p.n, back),
        candidate(p.bf16, p.candidate, p.n, p.n, p.n, back) {}
};

static void forward(const Gru& p, const GruFactors& w, const Block& b) {
  const float* old = p.h0 + b.first * p.n;
  const int n = p.n, m = p.m;
  for (int s = 0; s < p.T; ++s) {
    const long row = static_cast<long>(p.reverse ? p.T - 1 - s : s) * p.B + b.first;
    const long kept = p.keep ? row : b.first;
    float* g = p.g + kept * 3 * n;
    if (m > 0) product(b.rows, p.x + row * m, m, w.in, 0.0f, g, 3 * n);
    gru_step(b.rows, n, g, old, w.gates, w.candidate, p.bias, m > 0, p.clip, p.rh + b.first * n,
             p.h + row * n);
    old = p.h + row * n;
  }
}

static void backward(const Gru& p, const GruFactors& w, const Block& b, Sums sums) {
  const int n = p.n;
  std::vector<float> tmp(scratch(b.rows, n));
  float* d = p.d_h0 + b.first * n;
  for (int s = p.T - 1; s >= 0; --s) {
    const long t = p.reverse ? p.T - 1 - s : s, row = t * p.B + b.first;
    const long before = (p.reverse ? t + 1 : t - 1) * p.B + b.first;
    const float* old = s == 0 ? p.h0 + b.first * n : p.h + before * n;
    if (p.d_h)
      for (int i = 0; i < b.rows * n; ++i) d[i] += p.d_h[row * n + i];
    gru_step_back(b.rows, n, p.g + row * 3 * n, old, w.gates, w.candidate, p.clip, d, sums,
                  tmp.data());
  }
  sums.finish();
}

// Several GRUs at once, such as an encoder's two directions: threads share the parts of all of them.
void lfads_gru_forward(const Gru* grus, int n_grus, int parts, int threads) {
  std::vector<GruFactors> weights;
  for (int i = 0; i < n_grus; ++i) weights.emplace_back(grus[i], false);
#pragma omp parallel for num_threads(std::min(threads, n_grus * parts)) schedule(dynamic, 1)
  for (int k = 0; k < n_grus * parts; ++k)
    forward(grus[k / parts], weights[k / parts], block_of(k % parts, parts, grus[k / parts].B));
}
void lfads_gru_backward(const Gru* grus, int n_grus, int parts, int threads) {
  std::vector<GruFactors> weights;
  for (int i = 0; i < n_grus; ++i) weights.emplace_back(grus[i], true);
#pragma omp parallel for num_threads(std::min(threads, n_grus * parts)) schedule(dynamic, 1)
  for (int k = 0; k < n_grus * parts; ++k) {
    const Gru& p = grus[k / parts];
    backward(p, weights[k / parts], block_of(k % parts, parts, p.B),
             Sums(p.bf16, p.sums, k % parts, p.n));
  }
}

// log_rates, counts (T, B, D), weight (T, B, D) or null for 1 -> nll (B), and d (T, B, D), its gradient
// in log_rates.
void lfads_poisson(int T, int B, int D, float clip, int parts, int threads, const float* log_rates,
                   const void* counts, int bytes, const float* weight, double* nll, float* d) {
  if (bytes)
    poisson(T, B, D, clip, parts, threads, log_rates, static_cast<const unsigned char*>(counts),
            weight, nll, d);
  else
    poisson(T, B, D, clip, parts, threads, log_rates, static_cast<const float*>(counts), weight, nll,
            d);
}

// Controller and generator; shapes in native.py, class Decoder. con_rh (B, K) and gen_rh (B, G) are
// scratch. Without `keep` con_g, gen_g, fed and read are of one bin.
struct Decoder {
  int T, B, N, K, U, G, F, C, I, use_means, feed, keep, parts, threads, bf16;
  float clip;
  float *con_in, *encodings, *w_enc, *ext, *w_ext, *con_g, *c0, *con_gates, *con_candidate, *con_b, *w_feed, *w_post, *b_post, *noise;
  float *gen_g, *g0, *gen_gates, *gen_candidate, *gen_b, *w_u, *w_fac, *feed_mask, *gen_mask;
  float *con_h, *con_rh, *post, *u, *gen_h, *gen_rh, *fac, *fed, *read, *fac0;
  float *d_con_h, *d_post, *d_u, *d_gen_h, *d_fac, *d_c0, *d_g0, *d_fac0, *con_sums, *gen_sums;
};

void lfads_decoder_forward(const Decoder* p) {
  const int B = p->B, K = p->K, U = p->U, G = p->G, F = p->F;
  const bool bf16 = p->bf16;
  const Factor w_enc(bf16, p->con_in ? nullptr : p->w_enc, p->C, 3 * K, 3 * K);
  const Factor w_feed(bf16, p->w_feed, F, 3 * K, 3 * K), w_post(bf16, p->w_post, K, 2 * U, 2 * U);
  const Factor con_gates(bf16, p->con_gates, K, 2 * K, 2 * K), w_u(bf16, p->w_u, U, 3 * G, 3 * G);
  const Factor con_candidate(bf16, p->con_candidate, K, K, K), w_fac(bf16, p->w_fac, G, F, F);
  const Factor gen_gates(bf16, p->gen_gates, G, 2 * G, 2 * G);
  const Factor gen_candidate(bf16, p->gen_candidate, G, G, G), w_ext(bf16, p->w_ext, p->I, 3 * G, 3 * G);
#pragma omp parallel for num_threads(std::min(p->threads, p->parts)) schedule(dynamic, 1)
  for (int k = 0; k < p->parts; ++k) {
    const Block b = block_of(k, p->parts, B);
    const int rows = b.rows;
    const float *c = p->c0 + b.first * K, *g = p->g0 + b.first * G;
    const float* fac = p->fac0 + b.first * F;
    if (p->feed) product(rows, g, G, w_fac, 0.0f, p->fac0 + b.first * F, F);
    for (int t = 0; t < p->T; ++t) {
      const long row = static_cast<long>(t) * B + b.first;
      const long kept = p->keep ? row : b.first;
      float *con_g = p->con_g + kept * 3 * K, *gen_g = p->gen_g + kept * 3 * G;
      if (p->con_in) {
        for (int i = 0; i < rows; ++i)
          std::memcpy(con_g + i * 3 * K,
                      p->con_in + (static_cast<long>(t) * p->N + (b.first + i) % p->N) * 3 * K,
                      sizeof(float) * 3 * K);
      } else {
        product(rows, p->encodings + row * p->C, p->C, w_enc, 0.0f, con_g, 3 * K);
      }
      if (p->feed) {
        float* fed = p->fed + kept * F;
        const float* mask = p->feed_mask ? p->feed_mask + row * F : nullptr;
        for (int i = 0; i < rows * F; ++i) fed[i] = mask ? fac[i] * mask[i] : fac[i];
        product(rows, fed, F, w_feed, 1.0f, con_g, 3 * K);
      }
      gru_step(rows, K, con_g, c, con_gates, con_candidate, p->con_b, true, p->clip,
               p->con_rh + b.first * K, p->con_h + row * K);
      c = p->con_h + row * K;
      float *post = p->post + row * 2 * U, *u = p->u + row * U;
      const float* noise = p->noise + row * U;
      for (int i = 0; i < rows; ++i) std::memcpy(post + i * 2 * U, p->b_post, sizeof(float) * 2 * U);
      product(rows, c, K, w_post, 1.0f, post, 2 * U);
      for (int i = 0; i < rows; ++i)
        for (int j = 0; j < U; ++j)
          u[i * U + j] = post[i * 2 * U + j] +
                         fast_exp(0.5f * post[i * 2 * U + U + j]) * noise[i * U + j];
      product(rows, p->use_means ? post : u, p->use_means ? 2 * U : U, w_u, 0.0f, gen_g, 3 * G);
      if (p->I > 0) product(rows, p->ext + row * p->I, p->I, w_ext, 1.0f, gen_g, 3 * G);
      gru_step(rows, G, gen_g, g, gen_gates, gen_candidate, p->gen_b, true, p->clip,
               p->gen_rh + b.first * G, p->gen_h + row * G);
      g = p->gen_h + row * G;
      const float* read = g;
      if (p->gen_mask) {
        float* out = p->read + kept * G;
        const float* mask = p->gen_mask + row * G;
        for (int i = 0; i < rows * G; ++i) out[i] = g[i] * mask[i];
        read = out;
      }
      product(rows, read, G, w_fac, 0.0f, p->fac + row * F, F);
      fac = p->fac + row * F;
    }
  }
}

// On entry d_con_h, d_post, d_u, d_gen_h, d_fac hold the gradients of the outputs; on return d_post and
// d_fac hold the totals, con_g and gen_g the gradients of their projections, and d_c0, d_g0, d_fac0
// those of the start states and of the factors before bin 0; con_sums and gen_sums (parts, Sums::size)
// hold a part each.
void lfads_decoder_backward(const Decoder* p) {
  const int B = p->B, K = p->K, U = p->U, G = p->G, F = p->F;
  const bool bf16 = p->bf16;
  const Factor w_feed(bf16, p->w_feed, 3 * K, F, 3 * K, true);
  const Factor w_post(bf16, p->w_post, 2 * U, K, 2 * U, true);
  const Factor con_gates(bf16, p->con_gates, 2 * K, K, 2 * K, true);
  const Factor con_candidate(bf16, p->con_candidate, K, K, K, true);
  const Factor w_u(bf16, p->w_u, 3 * G, U, 3 * G, true), w_fac(bf16, p->w_fac, F, G, F, true);
  const Factor gen_gates(bf16, p->gen_gates, 2 * G, G, 2 * G, true);
  const Factor gen_candidate(bf16, p->gen_candidate, G, G, G, true);
#pragma omp parallel for num_threads(std::min(p->threads, p->parts)) schedule(dynamic, 1)
  for (int k = 0; k < p->parts; ++k) {
    const Block b = block_of(k, p->parts, B);
    const int rows = b.rows;
    std::vector<float> tmp(scratch(rows, G > K ? G : K)), d_read(static_cast<size_t>(rows) * G);
    std::vector<float> d_drive(static_cast<size_t>(rows) * U);
    float *d_c = p->d_c0 + b.first * K, *d_g = p->d_g0 + b.first * G;
    std::memset(d_c, 0, sizeof(float) * rows * K);
    std::memset(d_g, 0, sizeof(float) * rows * G);
    Sums con_sums(bf16, p->con_sums, k, K), gen_sums(bf16, p->gen_sums, k, G);
    for (int t = p->T - 1; t >= 0; --t) {
      const long row = static_cast<long>(t) * B + b.first;
      const float* g_old = t ? p->gen_h + (row - B) * G : p->g0 + b.first * G;
      const float* c_old = t ? p->con_h + (row - B) * K : p->c0 + b.first * K;
      float *con_g = p->con_g + row * 3 * K, *gen_g = p->gen_g + row * 3 * G;
      product(rows, p->d_fac + row * F, F, w_fac, 0.0f, d_read.data(), G);
      const float* mask = p->gen_mask ? p->gen_mask + row * G : nullptr;
      const float* d_out = p->d_gen_h + row * G;
      for (int i = 0; i < rows * G; ++i) d_g[i] += d_out[i] + (mask ? d_read[i] * mask[i] : d_read[i]);
      gru_step_back(rows, G, gen_g, g_old, gen_gates, gen_candidate, p->clip, d_g, gen_sums,
                    tmp.data());
      product(rows, gen_g, 3 * G, w_u, 0.0f, d_drive.data(), U);
      float* d_post = p->d_post + row * 2 * U;
      const float *post = p->post + row * 2 * U, *noise = p->noise + row * U;
      for (int i = 0; i < rows; ++i)
        for (int j = 0; j < U; ++j) {
          const float drive = d_drive[i * U + j];
          const float d_u = p->d_u[(row + i) * U + j] + (p->use_means ? 0.0f : drive);
          d_post[i * 2 * U + j] += d_u + (p->use_means ? drive : 0.0f);
          d_post[i * 2 * U + U + j] +=
              d_u * 0.5f * fast_exp(0.5f * post[i * 2 * U + U + j]) * noise[i * U + j];
        }
      const float* d_state = p->d_con_h + row * K;
      for (int i = 0; i < rows * K; ++i) d_c[i] += d_state[i];
      product(rows, d_post, 2 * U, w_post, 1.0f, d_c, K);
      gru_step_back(rows, K, con_g, c_old, con_gates, con_candidate, p->clip, d_c, con_sums,
                    tmp.data());
      if (p->feed) {
        float* d_fac = t ? p->d_fac + (row - B) * F : p->d_fac0 + b.first * F;
        std::vector<float> d_fed(static_cast<size_t>(rows) * F);
        product(rows, con_g, 3 * K, w_feed, 0.0f, d_fed.data(), F);
        const float* m = p->feed_mask ? p->feed_mask + row * F : nullptr;
        for (int i = 0; i < rows * F; ++i) {
          const float d = m ? d_fed[i] * m[i] : d_fed[i];
          d_fac[i] = t ? d_fac[i] + d : d;
        }
      }
    }
    if (p->feed) product(rows, p->d_fac0 + b.first * F, F, w_fac, 1.0f, d_g, G);
    con_sums.finish();
    gen_sums.finish();
  }
}
}
