// The recurrences of LFADS, forward and backward, float32. Called by native.py through ctypes.
//
// A thread takes a part of the trials through all time bins, so there is no barrier per bin, and the
// next part when it is done. Per bin only
// sgemm calls (torch's own BLAS, handed over by address) and elementwise loops between them. Arrays are
// time-major: (T, B, n). A GRU's buffer (T, B, 3n) holds [reset | update | candidate]: activations after
// the forward pass, gradients of the projected inputs after the backward pass. Gradients of recurrent
// weights are summed bin by bin, while what goes into them is in the cache; the other products for
// weights are left to the caller: one large one each.

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstring>
#include <vector>

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
              const float* w_gates, const float* w_candidate, const float* __restrict bias,
              bool adds, float clip, float* __restrict rh, float* __restrict h_new) {
  const float beta = adds ? 1.0f : 0.0f;
  gemm(rows, 2 * n, n, h, n, w_gates, 2 * n, false, beta, g, 3 * n);
  for (int i = 0; i < rows; ++i) {
    float* __restrict gi = g + i * 3 * n;
    for (int j = 0; j < 2 * n; ++j) gi[j] = sigmoid(gi[j] + bias[j]);
    for (int j = 0; j < n; ++j) rh[i * n + j] = gi[j] * h[i * n + j];
  }
  gemm(rows, n, n, rh, n, w_candidate, n, false, beta, g + 2 * n, 3 * n);
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
  float *gates, *candidate, *bias;
  Sums(float* all, int k, int n)
      : gates(all + k * size(n)), candidate(gates + 2 * n * n), bias(candidate + n * n) {
    std::memset(gates, 0, sizeof(float) * size(n));
  }
  static long size(int n) { return 3L * n * n + 3L * n; }
};

// The GRU's backward pass over a bin. d holds the gradient of the new state and is replaced by that of
// the old one; g is replaced by the gradient of its projections; tmp (rows, n) and (3n).
void gru_step_back(int rows, int n, float* __restrict g, const float* __restrict h,
                   const float* w_gates, const float* w_candidate, float clip,
                   float* __restrict d, const Sums& sums, float* __restrict tmp) {
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
  gemm(rows, n, n, g + 2 * n, 3 * n, w_candidate, n, true, 0.0f, tmp, n);
  for (int i = 0; i < rows; ++i) {
    float* __restrict gi = g + i * 3 * n;
    for (int j = 0; j < n; ++j) {
      const float r = gi[j], drh = tmp[i * n + j], old = h[i * n + j];
      d[i * n + j] += drh * r;
      gi[j] = drh * old * r * (1.0f - r);
      tmp[i * n + j] = r * old;
    }
  }
  add_outer(n, n, rows, tmp, n, g + 2 * n, 3 * n, sums.candidate);
  add_outer(n, 2 * n, rows, h, n, g, 3 * n, sums.gates);
  gemm(rows, n, 2 * n, g, 3 * n, w_gates, 2 * n, true, 1.0f, d, n);
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
  int T, B, n, m, reverse, keep;
  float clip;
  float *x, *w_in, *g, *h0, *gates, *candidate, *bias, *h, *rh, *d_h, *d_h0, *sums;
};

static void forward(const Gru& p, const Block& b) {
  const float* old = p.h0 + b.first * p.n;
  const int n = p.n, m = p.m;
  for (int s = 0; s < p.T; ++s) {
    const long row = static_cast<long>(p.reverse ? p.T - 1 - s : s) * p.B + b.first;
    const long kept = p.keep ? row : b.first;
    float* g = p.g + kept * 3 * n;
    if (m > 0) gemm(b.rows, 3 * n, m, p.x + row * m, m, p.w_in, 3 * n, false, 0.0f, g, 3 * n);
    gru_step(b.rows, n, g, old, p.gates, p.candidate, p.bias, m > 0, p.clip, p.rh + b.first * n,
             p.h + row * n);
    old = p.h + row * n;
  }
}

static void backward(const Gru& p, const Block& b, const Sums& sums) {
  const int n = p.n;
  std::vector<float> tmp(scratch(b.rows, n));
  float* d = p.d_h0 + b.first * n;
  for (int s = p.T - 1; s >= 0; --s) {
    const long t = p.reverse ? p.T - 1 - s : s, row = t * p.B + b.first;
    const long before = (p.reverse ? t + 1 : t - 1) * p.B + b.first;
    const float* old = s == 0 ? p.h0 + b.first * n : p.h + before * n;
    if (p.d_h)
      for (int i = 0; i < b.rows * n; ++i) d[i] += p.d_h[row * n + i];
    gru_step_back(b.rows, n, p.g + row * 3 * n, old, p.gates, p.candidate, p.clip, d, sums,
                  tmp.data());
  }
}

// Several GRUs at once, such as an encoder's two directions: threads share the parts of all of them.
void lfads_gru_forward(const Gru* grus, int n_grus, int parts, int threads) {
#pragma omp parallel for num_threads(std::min(threads, n_grus * parts)) schedule(dynamic, 1)
  for (int k = 0; k < n_grus * parts; ++k)
    forward(grus[k / parts], block_of(k % parts, parts, grus[k / parts].B));
}
void lfads_gru_backward(const Gru* grus, int n_grus, int parts, int threads) {
#pragma omp parallel for num_threads(std::min(threads, n_grus * parts)) schedule(dynamic, 1)
  for (int k = 0; k < n_grus * parts; ++k) {
    const Gru& p = grus[k / parts];
    backward(p, block_of(k % parts, parts, p.B), Sums(p.sums, k % parts, p.n));
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
  int T, B, N, K, U, G, F, C, I, use_means, feed, keep, parts, threads;
  float clip;
  float *con_in, *encodings, *w_enc, *ext, *w_ext, *con_g, *c0, *con_gates, *con_candidate, *con_b, *w_feed, *w_post, *b_post, *noise;
  float *gen_g, *g0, *gen_gates, *gen_candidate, *gen_b, *w_u, *w_fac, *feed_mask, *gen_mask;
  float *con_h, *con_rh, *post, *u, *gen_h, *gen_rh, *fac, *fed, *read, *fac0;
  float *d_con_h, *d_post, *d_u, *d_gen_h, *d_fac, *d_c0, *d_g0, *d_fac0, *con_sums, *gen_sums;
};

void lfads_decoder_forward(const Decoder* p) {
  const int B = p->B, K = p->K, U = p->U, G = p->G, F = p->F;
#pragma omp parallel for num_threads(std::min(p->threads, p->parts)) schedule(dynamic, 1)
  for (int k = 0; k < p->parts; ++k) {
    const Block b = block_of(k, p->parts, B);
    const int rows = b.rows;
    const float *c = p->c0 + b.first * K, *g = p->g0 + b.first * G;
    const float* fac = p->fac0 + b.first * F;
    if (p->feed) gemm(rows, F, G, g, G, p->w_fac, F, false, 0.0f, p->fac0 + b.first * F, F);
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
        gemm(rows, 3 * K, p->C, p->encodings + row * p->C, p->C, p->w_enc, 3 * K, false, 0.0f,
             con_g, 3 * K);
      }
      if (p->feed) {
        float* fed = p->fed + kept * F;
        const float* mask = p->feed_mask ? p->feed_mask + row * F : nullptr;
        for (int i = 0; i < rows * F; ++i) fed[i] = mask ? fac[i] * mask[i] : fac[i];
        gemm(rows, 3 * K, F, fed, F, p->w_feed, 3 * K, false, 1.0f, con_g, 3 * K);
      }
      gru_step(rows, K, con_g, c, p->con_gates, p->con_candidate, p->con_b, true, p->clip,
               p->con_rh + b.first * K, p->con_h + row * K);
      c = p->con_h + row * K;
      float *post = p->post + row * 2 * U, *u = p->u + row * U;
      const float* noise = p->noise + row * U;
      for (int i = 0; i < rows; ++i) std::memcpy(post + i * 2 * U, p->b_post, sizeof(float) * 2 * U);
      gemm(rows, 2 * U, K, c, K, p->w_post, 2 * U, false, 1.0f, post, 2 * U);
      for (int i = 0; i < rows; ++i)
        for (int j = 0; j < U; ++j)
          u[i * U + j] = post[i * 2 * U + j] +
                         fast_exp(0.5f * post[i * 2 * U + U + j]) * noise[i * U + j];
      gemm(rows, 3 * G, U, p->use_means ? post : u, p->use_means ? 2 * U : U, p->w_u, 3 * G, false,
           0.0f, gen_g, 3 * G);
      if (p->I > 0)
        gemm(rows, 3 * G, p->I, p->ext + row * p->I, p->I, p->w_ext, 3 * G, false, 1.0f, gen_g, 3 * G);
      gru_step(rows, G, gen_g, g, p->gen_gates, p->gen_candidate, p->gen_b, true, p->clip,
               p->gen_rh + b.first * G, p->gen_h + row * G);
      g = p->gen_h + row * G;
      const float* read = g;
      if (p->gen_mask) {
        float* out = p->read + kept * G;
        const float* mask = p->gen_mask + row * G;
        for (int i = 0; i < rows * G; ++i) out[i] = g[i] * mask[i];
        read = out;
      }
      gemm(rows, F, G, read, G, p->w_fac, F, false, 0.0f, p->fac + row * F, F);
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
#pragma omp parallel for num_threads(std::min(p->threads, p->parts)) schedule(dynamic, 1)
  for (int k = 0; k < p->parts; ++k) {
    const Block b = block_of(k, p->parts, B);
    const int rows = b.rows;
    std::vector<float> tmp(scratch(rows, G > K ? G : K)), d_read(static_cast<size_t>(rows) * G);
    std::vector<float> d_drive(static_cast<size_t>(rows) * U);
    float *d_c = p->d_c0 + b.first * K, *d_g = p->d_g0 + b.first * G;
    std::memset(d_c, 0, sizeof(float) * rows * K);
    std::memset(d_g, 0, sizeof(float) * rows * G);
    const Sums con_sums(p->con_sums, k, K), gen_sums(p->gen_sums, k, G);
    for (int t = p->T - 1; t >= 0; --t) {
      const long row = static_cast<long>(t) * B + b.first;
      const float* g_old = t ? p->gen_h + (row - B) * G : p->g0 + b.first * G;
      const float* c_old = t ? p->con_h + (row - B) * K : p->c0 + b.first * K;
      float *con_g = p->con_g + row * 3 * K, *gen_g = p->gen_g + row * 3 * G;
      gemm(rows, G, F, p->d_fac + row * F, F, p->w_fac, F, true, 0.0f, d_read.data(), G);
      const float* mask = p->gen_mask ? p->gen_mask + row * G : nullptr;
      const float* d_out = p->d_gen_h + row * G;
      for (int i = 0; i < rows * G; ++i) d_g[i] += d_out[i] + (mask ? d_read[i] * mask[i] : d_read[i]);
      gru_step_back(rows, G, gen_g, g_old, p->gen_gates, p->gen_candidate, p->clip, d_g, gen_sums,
                    tmp.data());
      gemm(rows, U, 3 * G, gen_g, 3 * G, p->w_u, 3 * G, true, 0.0f, d_drive.data(), U);
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
      gemm(rows, K, 2 * U, d_post, 2 * U, p->w_post, 2 * U, true, 1.0f, d_c, K);
      gru_step_back(rows, K, con_g, c_old, p->con_gates, p->con_candidate, p->clip, d_c, con_sums,
                    tmp.data());
      if (p->feed) {
        float* d_fac = t ? p->d_fac + (row - B) * F : p->d_fac0 + b.first * F;
        std::vector<float> d_fed(static_cast<size_t>(rows) * F);
        gemm(rows, F, 3 * K, con_g, 3 * K, p->w_feed, 3 * K, true, 0.0f, d_fed.data(), F);
        const float* m = p->feed_mask ? p->feed_mask + row * F : nullptr;
        for (int i = 0; i < rows * F; ++i) {
          const float d = m ? d_fed[i] * m[i] : d_fed[i];
          d_fac[i] = t ? d_fac[i] + d : d;
        }
      }
    }
    if (p->feed) gemm(rows, G, F, p->d_fac0 + b.first * F, F, p->w_fac, F, true, 1.0f, d_g, G);
  }
}
}
