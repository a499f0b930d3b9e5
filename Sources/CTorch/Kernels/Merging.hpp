// Weighted sums of many arrays in one pass over memory. Included by Level.hpp only.

constexpr int64_t sumsAtOnce = 2048;

// Σ weight · part in Float64, part after part; each result is rounded once.
template <typename Number>
ACCRUE_INLINE void weightedSumOf(const Number *const *parts, const double *weights, int64_t partCount, int64_t count, Number *out) {
    double sums[sumsAtOnce];
    for (int64_t start = 0; start < count; start += sumsAtOnce) {
        const int64_t some = count - start < sumsAtOnce ? count - start : sumsAtOnce;
        for (int64_t at = 0; at < some; ++at) sums[at] = weights[0] * static_cast<double>(parts[0][start + at]);
        for (int64_t part = 1; part < partCount; ++part) {
            const Number *from = parts[part] + start;
            const double weight = weights[part];
            for (int64_t at = 0; at < some; ++at) sums[at] += weight * static_cast<double>(from[at]);
        }
        for (int64_t at = 0; at < some; ++at) out[start + at] = static_cast<Number>(sums[at]);
    }
}

static void weightedSum(const float *const *parts, const double *weights, int64_t partCount, int64_t count, float *out) {
    weightedSumOf(parts, weights, partCount, count, out);
}

static void weightedSumDouble(const double *const *parts, const double *weights, int64_t partCount, int64_t count, double *out) {
    weightedSumOf(parts, weights, partCount, count, out);
}
