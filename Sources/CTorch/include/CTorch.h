// Flat C functions over libtorch's CPU tensors and reverse-mode gradients. No policy: shapes, keys and limits are the callers' to check.
//
// Tensors are immutable from outside. A function that fails returns NULL (or a negative number) and leaves its reason in ct_error().
// Every tensor returned is the caller's, to be given back with ct_free.
#ifndef CTORCH_H
#define CTORCH_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#pragma clang assume_nonnull begin

typedef struct ct_tensor_opaque *ct_tensor;

// Element types, in the order of AccrueCore's DType.
enum ct_dtype { CT_F64, CT_F32, CT_F16, CT_BF16, CT_I64, CT_I32, CT_I16, CT_I8, CT_U8, CT_BOOL };

enum ct_unary {
    CT_NEG, CT_EXP, CT_EXPM1, CT_LOG, CT_LOG1P, CT_SQRT, CT_RSQRT, CT_SQUARE, CT_ABS, CT_RELU, CT_SIGMOID, CT_TANH, CT_SOFTPLUS, CT_SIN, CT_COS,
    CT_RECIPROCAL, CT_ERF, CT_LGAMMA, CT_CLONE, CT_DETACH, CT_SIGN
};
enum ct_binary { CT_ADD, CT_SUB, CT_MUL, CT_DIV, CT_MAXIMUM, CT_MINIMUM, CT_POW, CT_MATMUL, CT_EQUAL, CT_LESS };
enum ct_reduce { CT_SUM, CT_MEAN, CT_AMAX, CT_LOGSUMEXP };
enum ct_fact { CT_VERSION, CT_CPU_CAPABILITY, CT_BLAS, CT_BLAS_CORE, CT_BLAS_THREADS, CT_ONEDNN, CT_THREADS };
// Instruction sets that the fused kernels are compiled for; CT_REFERENCE does without the kernels, CT_WIDEST is the widest that the processor has.
enum ct_level { CT_REFERENCE, CT_BASELINE, CT_AVX2, CT_AVX512, CT_WIDEST };
enum ct_reduction { CT_REDUCE_NONE, CT_REDUCE_MEAN, CT_REDUCE_SUM };

// The reason of this thread's last failure.
const char *ct_error(void);
// Sets threads to one and turns off gradients and non-deterministic choices, for the calling thread where the library keeps them by thread.
void ct_begin_thread(void);
// What the library says about itself; NULL when it does not say. The caller frees it with free().
char *_Nullable ct_describe(enum ct_fact fact);

// Chooses the fused kernels' instruction set for the calling thread (at first the widest that the processor has); 0, or -1 when it has none such.
int32_t ct_use_kernels(int32_t level);
// The name of the one in use.
const char *ct_kernels(void);

void ct_free(ct_tensor tensor);
ct_tensor _Nullable ct_from_bytes(const void *_Nullable data, int32_t dtype, const int64_t *_Nullable shape, int32_t dims);
ct_tensor _Nullable ct_full(const int64_t *_Nullable shape, int32_t dims, double value, int32_t dtype);
int32_t ct_dims(ct_tensor tensor);
int64_t ct_size(ct_tensor tensor, int32_t dim);
int64_t ct_count(ct_tensor tensor);
int32_t ct_type(ct_tensor tensor);
// Copies the elements, row by row, into a buffer of exactly `bytes` bytes; 0, or -1 on failure.
int32_t ct_copy_bytes(ct_tensor tensor, void *_Nullable out, int64_t bytes);
// The single element; NaN and an error when there is not exactly one.
double ct_item(ct_tensor tensor);
// 1 when every element is finite, 0 when not, -1 on failure.
int32_t ct_all_finite(ct_tensor tensor);

ct_tensor _Nullable ct_apply_unary(int32_t op, ct_tensor a);
ct_tensor _Nullable ct_apply_binary(int32_t op, ct_tensor a, ct_tensor b);
ct_tensor _Nullable ct_apply_scalar(int32_t op, ct_tensor a, double b);
// No dims: over all.
ct_tensor _Nullable ct_apply_reduce(int32_t op, ct_tensor a, const int64_t *_Nullable dims, int32_t count, bool keep);
ct_tensor _Nullable ct_clamp(ct_tensor a, double low, double high);
ct_tensor _Nullable ct_where(ct_tensor condition, ct_tensor a, ct_tensor b);
ct_tensor _Nullable ct_to_type(ct_tensor a, int32_t dtype);

ct_tensor _Nullable ct_reshape(ct_tensor a, const int64_t *_Nullable shape, int32_t dims);
ct_tensor _Nullable ct_expand(ct_tensor a, const int64_t *_Nullable shape, int32_t dims);
ct_tensor _Nullable ct_permute(ct_tensor a, const int64_t *_Nullable order, int32_t dims);
ct_tensor _Nullable ct_narrow(ct_tensor a, int32_t dim, int64_t start, int64_t length);
ct_tensor _Nullable ct_index_select(ct_tensor a, int32_t dim, ct_tensor index);
ct_tensor _Nullable ct_gather(ct_tensor a, int32_t dim, ct_tensor index);
ct_tensor _Nullable ct_concatenate(const ct_tensor _Nonnull *_Nullable list, int32_t count, int32_t dim);
ct_tensor _Nullable ct_stack(const ct_tensor _Nonnull *_Nullable list, int32_t count, int32_t dim);
ct_tensor _Nullable ct_argmax(ct_tensor a, int32_t dim);
// The k-th largest along the last dimension, which stays with one element.
ct_tensor _Nullable ct_kth_largest(ct_tensor a, int64_t k);
ct_tensor _Nullable ct_one_hot(ct_tensor index, int64_t classes);
ct_tensor _Nullable ct_softmax(ct_tensor a, int32_t dim, bool log);

// x [N, in], weight [out, in], bias [out] -> [N, out].
ct_tensor _Nullable ct_linear(ct_tensor x, ct_tensor weight, ct_tensor _Nullable bias);
// The same where weights are independent Gaussians: mean(x) + sqrt(variance(x^2) + 1e-16) * normal, with the key's normals in the order [N, out].
ct_tensor _Nullable ct_noisy_linear(
    ct_tensor x, ct_tensor weight, ct_tensor _Nullable bias, ct_tensor variance, ct_tensor _Nullable bias_variance, uint64_t high, uint64_t low);
// x [N, C, H, W], weight [O, C / groups, kh, kw], bias [O].
ct_tensor _Nullable ct_conv2d(ct_tensor x, ct_tensor weight, ct_tensor _Nullable bias, int64_t stride, int64_t padding, int64_t groups);
// A convolution of stride 1, 2x2 max-pooling of stride 2 and ReLU at once; same operands. Float32 has kernels of its own, which also say which
// position of each window won (U8 [N, H', W', O]: 0 ... 3, or 4 where ReLU cut it off); without kernels that stays NULL.
ct_tensor _Nullable ct_convolution_pool(
    ct_tensor x, ct_tensor weight, ct_tensor _Nullable bias, int64_t padding, ct_tensor _Nullable *_Nullable winners);
// The same where weights are independent Gaussians: mean(x) + sqrt(variance(x^2) + 1e-16) * normal before pooling, with the key's normals in the order
// [N, H', W', 4, O] of windows and their corners.
ct_tensor _Nullable ct_noisy_convolution_pool(
    ct_tensor x, ct_tensor weight, ct_tensor _Nullable bias, ct_tensor variance, ct_tensor _Nullable bias_variance, int64_t padding, uint64_t high,
    uint64_t low);
// Sums over images of each image's squared gradient by weight and bias of a pooled convolution, from its input, its winners and the gradient by its
// output [N, O, H', W']. Writes two new tensors; 0, or -1 on failure.
int32_t ct_pooled_squares(ct_tensor x, ct_tensor winners, ct_tensor slope, int64_t kernel, int64_t padding, ct_tensor _Nullable *_Nonnull out);
ct_tensor _Nullable ct_max_pool2d(ct_tensor x, int64_t size, int64_t stride);
ct_tensor _Nullable ct_average_pool2d(ct_tensor x, int64_t size, int64_t stride);
// x [N, C, H, W] -> patches [N, C*size*size, positions].
ct_tensor _Nullable ct_unfold2d(ct_tensor x, int64_t size, int64_t stride, int64_t padding);
// Normalises with the batch's own statistics when mean and variance are absent (biased variance).
ct_tensor _Nullable ct_batch_norm(
    ct_tensor x, ct_tensor gamma, ct_tensor beta, ct_tensor _Nullable mean, ct_tensor _Nullable variance, double epsilon);
// The same values with channels together in memory ("channels last"), [N, C, H, W]: where convolutions with few channels are fast.
ct_tensor _Nullable ct_channels_last(ct_tensor a);
// A batch norm with the batch's own statistics, and a ReLU: z [N, C, H, W], scale and shift [C]. Float32 has kernels of its own.
ct_tensor _Nullable ct_norm_relu(ct_tensor z, ct_tensor scale, ct_tensor shift, double epsilon);
// max(0, x + sum over units m of share m times the batch norm of z's channels m C ... (m + 1) C): z [N, M C, H, W], shares [N, M], x [N, C, H, W]. As above.
ct_tensor _Nullable ct_norm_mix_relu(ct_tensor z, ct_tensor scale, ct_tensor shift, ct_tensor shares, ct_tensor x, double epsilon);
// Of each channel the mean over rows and positions, and the sum of squared deviations from it: [2, C] F64. Not recorded.
ct_tensor _Nullable ct_channel_moments(ct_tensor x);

// I420 frames [N, 3/2 side^2] U8 (planes Y, Cb and Cr, the latter two of half the side) as red, green and blue [N, 3, side, side], by full-range JFIF in whole numbers.
ct_tensor _Nullable ct_i420_rgb(ct_tensor frames, int64_t side);
// Pictures [N, C, H, W] F32, each seen through a window moved down and to the right, after it was mirrored where that is not 0; zeros beyond its edges.
// `moves` [rows, 3]. Channels last; not recorded.
ct_tensor _Nullable ct_moved(ct_tensor pictures, const int64_t *moves, int64_t rows);

// logits [N, C], targets [N] I64.
ct_tensor _Nullable ct_cross_entropy(ct_tensor logits, ct_tensor targets, int32_t reduction);
ct_tensor _Nullable ct_binary_cross_entropy(ct_tensor logits, ct_tensor targets, int32_t reduction);

// The lower Cholesky factors of symmetric matrices [..., n, n]. Where one is not positive definite: its index among them, else -1, and the failing pivot.
ct_tensor _Nullable ct_cholesky(ct_tensor a, int64_t *_Nonnull block, int64_t *_Nonnull pivot);
// The x of transposed(lower) x = right, [..., n, k].
ct_tensor _Nullable ct_solve_transposed(ct_tensor lower, ct_tensor right);
// Eigenvalues [..., n], rising, and eigenvectors [..., n, n], in columns, of symmetric matrices.
int32_t ct_symmetric_eigen(ct_tensor a, ct_tensor _Nullable *_Nonnull values, ct_tensor _Nullable *_Nonnull vectors);

// Turns the recording of gradients on or off for this thread; returns what it was.
bool ct_set_recording(bool on);
// A leaf whose gradient can be asked for; shares the elements.
ct_tensor _Nullable ct_leaf(ct_tensor a);
// Gradients of a one-element tensor with respect to leaves, zeros for leaves it does not depend on; 0, or -1 on failure.
int32_t ct_gradient(ct_tensor value, const ct_tensor _Nonnull *_Nullable leaves, int32_t count, ct_tensor _Nullable *_Nonnull out);

// Philox4x32-10 (Salmon et al. 2011) keyed by (high, low): the same numbers for the same key, whatever the shape of the call around it.
ct_tensor _Nullable ct_normal(uint64_t high, uint64_t low, const int64_t *_Nullable shape, int32_t dims, int32_t dtype);
// Uniform on the open interval (0, 1).
ct_tensor _Nullable ct_uniform(uint64_t high, uint64_t low, const int64_t *_Nullable shape, int32_t dims, int32_t dtype);
void ct_random_words(uint64_t high, uint64_t low, uint64_t *_Nullable out, int64_t count);

// Mean and variance of a dense layer's weights [out, in] and bias [out], of which networks draw the layer's outputs: read once for all of them.
typedef struct ct_moments_s *ct_moments;
ct_moments _Nullable ct_moments_make(ct_tensor mean, ct_tensor _Nullable bias, ct_tensor variance, ct_tensor _Nullable bias_variance);
void ct_moments_free(ct_moments moments);
// One draw of a network's weights in the order in which the kernels read them; weights are copied.
typedef struct ct_packed_s *ct_packed;
// A dense layer [out, in], or a convolution of stride 1 [out, channels, k, k] that 2x2 max-pooling and a ReLU follow. With moments, which must live as long
// as what is packed, a dense layer's outputs are m + noise * sqrt(v), noise [out], with m and v of the moments; its weight says the shape alone.
typedef struct ct_layer {
    ct_tensor weight;
    ct_tensor _Nullable bias;
    int64_t padding;
    bool relu;
    ct_moments _Nullable moments;
    ct_tensor _Nullable noise;
} ct_layer;
// For inputs of this shape ([features] or [channels, height, width]). NULL is written when there are no kernels for it, or a weight is not finite; 0, or -1
// on failure.
int32_t ct_pack(const ct_layer *layers, int32_t count, const int64_t *shape, int32_t dims, ct_packed _Nullable *_Nonnull out);
void ct_packed_free(ct_packed packed);
int64_t ct_packed_bytes(ct_packed packed);
int64_t ct_packed_outputs(ct_packed packed);
// Products that a row takes.
int64_t ct_packed_work(ct_packed packed);
// Outputs [networks, rows, outputs] of one input [rows] + shape (F32), `count` floats: a row's are the same bits whatever rows it comes with, and for any
// number of threads, over which the networks are shared out. 0, or -1 on failure.
int32_t ct_apply_packed(const ct_packed _Nonnull *_Nonnull networks, int32_t network_count, ct_tensor x, int32_t threads, float *out, int64_t count);

// a + (b - a) * share.
ct_tensor _Nullable ct_blend(ct_tensor a, ct_tensor b, double share);
// Sum of weight * tensor in Float64, tensor after tensor, in one pass: F32 or F64 tensors of one shape. Not recorded.
ct_tensor _Nullable ct_weighted_sum(const ct_tensor _Nonnull *_Nullable list, const double *_Nullable weights, int32_t count);
// exp(2 * log scale), with log scales cut to low ... high. Not recorded.
ct_tensor _Nullable ct_variance(ct_tensor log_scale, double low, double high);
// mean + scale * deviation * normal. Not recorded.
ct_tensor _Nullable ct_gaussian_draw(ct_tensor mean, ct_tensor deviation, double scale, uint64_t high, uint64_t low);

// Adam (Kingma & Ba 2015); corrected rates are the caller's: new = w - rate * m' / (sqrt(v' / correction) + epsilon).
typedef struct ct_adam {
    double rate, beta1, beta2, correction, epsilon;
} ct_adam;

// One step on F32 tensors of one shape. With centre and strength, (weight - centre) * strength is added to the gradient: a Gaussian prior's part.
// Writes three new tensors (weight, moments); 0, or -1 on failure.
int32_t ct_adam_step(
    const ct_adam *adam, ct_tensor weight, ct_tensor gradient, ct_tensor first, ct_tensor second, ct_tensor _Nullable centre,
    ct_tensor _Nullable strength, ct_tensor _Nullable *_Nonnull out);

// A factorised Gaussian, the gradients of an expected loss by its means and variances, its prior, and what their divergence counts for (`share`).
// Log scales beyond low ... high do not follow the loss.
typedef struct ct_factorised {
    ct_tensor mean, log_scale, by_mean, by_variance, prior_mean, prior_log_scale;
    ct_tensor mean_first, mean_second, scale_first, scale_second;
    double share, low, high;
} ct_factorised;

// One step of Adam on loss + share * KL(q, prior). Writes six new tensors (mean, log scale, both moments of either); 0, or -1 on failure.
int32_t ct_factorised_adam_step(const ct_adam *adam, const ct_factorised *factorised, ct_tensor _Nullable *_Nonnull out);

// An online Newton step (Shen et al. 2024): `gain` is one minus the Hessian's momentum, `count` what Hessian + damping are multiplied by to be a precision,
// `floor` the share of the damping at which that sum is held, `longest` a mean's step before it is multiplied by `rate`, `correction` the momentum's for its start.
typedef struct ct_newton {
    double rate, beta1, correction, gain, count, floor, longest;
} ct_newton;

// Where the gradient was taken and the gradient there; independent Gaussians by mean and Hessian, the mean's momentum, and the prior's mean and damping.
typedef struct ct_drawn {
    ct_tensor draw, gradient, mean, hessian, momentum, centre, damping;
} ct_drawn;

// One step on F32 tensors of one shape, and the next draw with the key's normals. Writes four new tensors (draw, mean, Hessian, momentum); 0, or -1 on failure.
int32_t ct_newton_step(const ct_newton *newton, const ct_drawn *drawn, uint64_t high, uint64_t low, ct_tensor _Nullable *_Nonnull out);

// What keeps weights near zero: a Gaussian prior of precision `a` (or the tensor `precision`), one of each weight's own with the best precision
// a / (mean^2 + variance + b), or the log-uniform one.
typedef enum ct_penalty { CT_PENALTY_GAUSSIAN, CT_PENALTY_AUTOMATIC, CT_PENALTY_LOG_UNIFORM } ct_penalty;

// A factorised Gaussian as above, without a prior of its own: penalties count share * weight, quadratic sites (both tensors or none) count share.
typedef struct ct_sparse {
    ct_tensor mean, log_scale, by_mean, by_variance;
    ct_tensor mean_first, mean_second, scale_first, scale_second;
    ct_tensor _Nullable precision;
    ct_tensor _Nullable site_precision;
    ct_tensor _Nullable site_precision_mean;
    int32_t penalty;
    double a, b, share, weight, low, high;
} ct_sparse;

// One step of Adam on loss + share * (sites + weight * penalty). Writes as ct_factorised_adam_step does.
int32_t ct_sparse_adam_step(const ct_adam *adam, const ct_sparse *sparse, ct_tensor _Nullable *_Nonnull out);

#pragma clang assume_nonnull end

#ifdef __cplusplus
}
#endif
#endif
