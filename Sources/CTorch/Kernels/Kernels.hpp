// The fused CPU kernels as a table of functions, one table for each instruction set; the widest that the processor has is chosen at run time.
//
// All tables come from one source: Level.hpp is compiled once for each instruction set, in a namespace of its own. Everything here is plain numbers in
// plain memory and knows nothing of libtorch. Kernels use no threads.
#pragma once
#include <cstdint>

namespace ct {

// Floats that may be read beyond the end of a kernel's operands (never used, never written): one vector of the widest kind.
constexpr int64_t slack = 16;

// A convolution of stride 1 whose positions are pooled 2×2, on one padded image with channels together ("channels last"). `run` numbers of a patch's
// row lie together; `high` and `wide` count pooled positions; there are 4 · high · wide positions, window by window.
struct PooledGeometry {
    int64_t channels, line, rows, run, high, wide, outputs;

    int64_t patch() const { return rows * run; }
    int64_t windows() const { return high * wide; }
    // Where the patch of a corner (0 … 3) of a window begins in the image.
    int64_t place(int64_t window, int64_t corner) const {
        return (2 * (window / wide) + corner / 2) * line + (2 * (window % wide) + corner % 2) * channels;
    }
};

// Position of the winner in its window, or `none` where ReLU cut it off.
constexpr uint8_t none = 4;

// One place where a gradient is not zero: where a patch begins (or which output it is), the slope there, and the slope by the variance.
struct Spot {
    int32_t place;
    float slope, rate;
};

// Adam's numbers (Kingma & Ba 2015): new = w − step · m' / (√(v' · scale) + epsilon), with both corrections for the start in `step` and `scale`.
struct AdamRates {
    float beta1, beta2, step, scale, epsilon;
};

// A step on means and log scales: operands, what KL is multiplied by, the range in which log scales follow the likelihood, and where results go. Moments
// are the first and second of means, then of log scales.
struct FactorisedStep {
    const float *mean, *logScale, *byMean, *byVariance, *priorMean, *priorLogScale, *moments[4];
    float share, low, high;
    float *meanOut, *logScaleOut, *momentsOut[4];
};

// An online Newton step's numbers: rates of mean, momentum and Hessian (`gain`), 1 over the momentum's correction for its start, what Hessian and damping
// are multiplied by to be a precision, the share of the damping below which their sum is held, and the longest whole step of a mean.
struct NewtonRates {
    float rate, beta1, scale, gain, count, floor, longest;
};

// Its operands, of which `draw` is where the gradient was taken, and where results go.
struct NewtonStep {
    const float *draw, *gradient, *mean, *hessian, *momentum, *centre, *damping;
    float *drawOut, *meanOut, *hessianOut, *momentumOut;
};

// The same without a prior of its own: a penalty, of a kind and two numbers or a precision a weight, and quadratic sites, which may be absent.
constexpr int32_t penaltyGaussian = 0, penaltyAutomatic = 1, penaltyLogUniform = 2;
struct SparseStep {
    const float *mean, *logScale, *byMean, *byVariance, *moments[4], *precision, *sitePrecision, *sitePrecisionMean;
    int32_t penalty;
    float a, b, share, weight, low, high;
    float *meanOut, *logScaleOut, *momentsOut[4];
};

// Pictures of `area` positions, channels last: `channels` of each of a set of units side by side.
struct NormGeometry {
    int64_t rows, area, channels, units;
    int64_t width() const { return channels * units; }
};

// A batch norm with its statistics, a number a channel: z · slope + offset, of which (z − centre) · inverse is the normalised part.
struct Norm {
    const float *slope, *offset, *inverse, *centre;
};

struct Kernels {
    const char *name;
    // Operations are done by libtorch's own, for comparison; only random numbers come from the kernels.
    bool isReference;
    int64_t lanes;

    // Standard normals at places `first` … of a key: see Normals.hpp.
    void (*normals)(uint64_t high, uint64_t low, uint64_t first, int64_t count, float *out);

    // Numbers of packed weights, of either kind.
    int64_t (*packedCount)(int64_t outputs, int64_t inputs);

    // Forward pass of a pooled convolution, image by image: see PooledForward.hpp. `pool` does without winners where there is no room for them.
    void (*packWeights)(const float *weight, int64_t outputs, int64_t patch, float *packed);
    void (*convolve)(const PooledGeometry &, const float *image, const int32_t *offsets, const float *packed, float *sums);
    void (*pool)(const PooledGeometry &, const float *sums, const float *bias, float *out, uint8_t *winners);
    void (*poolNoisy)(
        const PooledGeometry &, const float *sums, const float *bias, const float *spreads, const float *spreadBias, const float *normals, float *out,
        uint8_t *winners, float *rates);

    // Its gradients: see PooledBackward.hpp. Without `variance` the rates are not read.
    int64_t (*patchCount)(int64_t rows, int64_t run);
    void (*patchSums)(const PooledGeometry &, const float *x, const float *squares, const Spot *spots, int64_t count, float *mean, float *variance);
    void (*patchSquares)(const PooledGeometry &, const float *x, const Spot *spots, int64_t count, float *sums);
    // `spots` [4 · windows, outputs], of which `counts` [4 · windows] are meant; adds to `gradient`.
    void (*scatter)(
        const PooledGeometry &, const float *mean, const float *variance, const Spot *spots, const int64_t *counts, const float *x, float *gradient);

    // Single passes over parameters and outputs: see Sweeps.hpp. `centre` and `strength` may be absent.
    void (*adam)(
        const AdamRates &, int64_t count, const float *weight, const float *gradient, const float *first, const float *second, const float *centre,
        const float *strength, float *weightOut, float *firstOut, float *secondOut);
    void (*factorisedAdam)(const AdamRates &, const FactorisedStep &, int64_t count);
    void (*newton)(const NewtonRates &, const NewtonStep &, uint64_t high, uint64_t low, int64_t count);
    void (*sparseAdam)(const AdamRates &, const SparseStep &, int64_t count);
    void (*variances)(int64_t count, const float *logScale, float low, float high, float *out);
    void (*addNoise)(uint64_t high, uint64_t low, int64_t count, const float *mean, const float *variance, float *out, float *rates);
    void (*draw)(uint64_t high, uint64_t low, int64_t count, const float *mean, const float *deviation, float scale, float *out);

    // Dense layers whose rows do not depend on each other's company: see Dense.hpp. `places` is `placeCount` numbers of room.
    int64_t (*placeCount)(int64_t rows, int64_t inputs);
    void (*packDense)(const float *weight, int64_t outputs, int64_t inputs, float *packed);
    void (*dense)(
        int64_t rows, int64_t inputs, int64_t outputs, const float *x, const float *packed, const float *bias, bool relu, int32_t *places, float *out);

    // Batch norms with what follows them: see ResidualNorm.hpp.
    void (*channelMoments)(const NormGeometry &, const float *z, double *mean, double *squares);
    void (*normRelu)(const NormGeometry &, const Norm &, const float *z, float *out);
    void (*normReluSums)(const NormGeometry &, const Norm &, const float *z, const float *by, double *sums, double *products);
    void (*normReluInput)(const NormGeometry &, const Norm &, const float *z, const float *by, const float *mean, const float *meanProduct, float *out);
    void (*normMix)(const NormGeometry &, const Norm &, const float *z, const float *shares, const float *x, float *room, float *out);
    void (*normMixSums)(
        const NormGeometry &, const Norm &, const float *z, const float *shares, const float *mixed, const float *by, float *room, float *byX, float *byShares,
        double *sums, double *products);
    void (*normMixInput)(
        const NormGeometry &, const Norm &, const float *z, const float *shares, const float *byX, const float *mean, const float *meanProduct, float *out);

    // Weighted sums of arrays: see Merging.hpp.
    void (*weightedSum)(const float *const *parts, const double *weights, int64_t partCount, int64_t count, float *out);
    void (*weightedSumDouble)(const double *const *parts, const double *weights, int64_t partCount, int64_t count, double *out);
};

// The table that the calling thread uses.
const Kernels &kernels();

}  // namespace ct
