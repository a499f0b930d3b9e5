// Weighted sums of many arrays in one pass over memory. Included by Level.hpp only.

// As many arrays are read side by side as processors prefetch at once; their sums stay in registers, and those of more arrays wait in the first cache.
constexpr int64_t partsAtOnce = 8, sumsAtOnce = 1024, sumsInRegisters = 16;

// Adds to each sum the next terms, of at most `partsAtOnce` arrays from place `at` on; `Sums` and `Numbers` are vectors of `sumsInRegisters`, or single.
template <typename Sums, typename Numbers, typename Number>
ACCRUE_INLINE void addParts(Sums &sums, const Number *const *parts, const double *weights, int64_t partCount, int64_t at) {
#pragma clang fp contract(off)
    for (int64_t part = 0; part < partCount; ++part) {
        Numbers numbers;
        __builtin_memcpy(&numbers, parts[part] + at, sizeof numbers);
        if constexpr (sizeof(Numbers) == sizeof(Number)) sums += weights[part] * static_cast<double>(numbers);
        else sums += weights[part] * __builtin_convertvector(numbers, Sums);
    }
}

// Σ weight · part in Float64, part after part, no product contracted with a sum; each result is rounded once. So every level gives the same bits.
template <typename Number>
ACCRUE_INLINE void weightedSumOf(const Number *const *parts, const double *weights, int64_t partCount, int64_t count, Number *out) {
    typedef double Sums __attribute__((ext_vector_type(sumsInRegisters)));
    typedef Number Numbers __attribute__((ext_vector_type(sumsInRegisters)));
    double waiting[sumsAtOnce];
    for (int64_t start = 0; start < count; start += sumsAtOnce) {
        const int64_t some = count - start < sumsAtOnce ? count - start : sumsAtOnce;
        for (int64_t first = 0; first < partCount; first += partsAtOnce) {
            const int64_t left = partCount - first, parted = left < partsAtOnce ? left : partsAtOnce;
            const bool last = left <= partsAtOnce;
            int64_t at = 0;
            for (; at + sumsInRegisters <= some; at += sumsInRegisters) {
                Sums sums = 0.0;
                if (first > 0) __builtin_memcpy(&sums, waiting + at, sizeof sums);
                addParts<Sums, Numbers>(sums, parts + first, weights + first, parted, start + at);
                if (last) {
                    const Numbers numbers = __builtin_convertvector(sums, Numbers);
                    __builtin_memcpy(out + start + at, &numbers, sizeof numbers);
                } else __builtin_memcpy(waiting + at, &sums, sizeof sums);
            }
            for (; at < some; ++at) {
                double sum = first > 0 ? waiting[at] : 0.0;
                addParts<double, Number>(sum, parts + first, weights + first, parted, start + at);
                if (last) out[start + at] = static_cast<Number>(sum);
                else waiting[at] = sum;
            }
        }
    }
}

static void weightedSum(const float *const *parts, const double *weights, int64_t partCount, int64_t count, float *out) {
    weightedSumOf(parts, weights, partCount, count, out);
}

static void weightedSumDouble(const double *const *parts, const double *weights, int64_t partCount, int64_t count, double *out) {
    weightedSumOf(parts, weights, partCount, count, out);
}
