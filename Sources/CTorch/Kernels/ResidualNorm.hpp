// Batch norms of residual units with what follows them, channels last: a ReLU, or the mix of a set of units that is added to what they were applied to.
// Included by Level.hpp only.
//
// A few channels at a time, those that are left by themselves: networks have few, so the widest vectors would stay half empty. Sums run over one picture in
// Float32 and over pictures in Float64.

constexpr int few = lanes < 8 ? lanes : 8;
typedef float Few __attribute__((ext_vector_type(few)));

template <typename V> ACCRUE_INLINE V take(const float *from) {
    V value;
    __builtin_memcpy(&value, from, sizeof value);
    return value;
}
template <typename V> ACCRUE_INLINE void put(float *to, V value) { __builtin_memcpy(to, &value, sizeof value); }
ACCRUE_INLINE Few positive(Few value) { return value > Few(0.0f) ? value : Few(0.0f); }
ACCRUE_INLINE float positive(float value) { return value > 0.0f ? value : 0.0f; }
// `value` where `of` is above zero, else zero.
ACCRUE_INLINE Few where(Few of, Few value) { return of > Few(0.0f) ? value : Few(0.0f); }
ACCRUE_INLINE float where(float of, float value) { return of > 0.0f ? value : 0.0f; }
template <typename V> ACCRUE_INLINE void addTo(double *sums, V value) {
    if constexpr (sizeof(V) == sizeof(float)) *sums += static_cast<double>(value);
    else
        for (int lane = 0; lane < few; ++lane) sums[lane] += static_cast<double>(value[lane]);
}

// Calls a body for every group of channels: with a Few, and with a float for each that is left.
template <typename Body> ACCRUE_INLINE void channelwise(int64_t width, Body body) {
    int64_t k = 0;
    for (; k + few <= width; k += few) body(k, Few(0.0f));
    for (; k < width; ++k) body(k, 0.0f);
}

// Mean of each channel and sum of squared deviations from it. Deviations are taken from each picture's first position and shifted exactly.
static void channelMoments(const NormGeometry &g, const float *z, double *mean, double *squares) {
    const int64_t width = g.width();
    for (int64_t k = 0; k < width; ++k) mean[k] = squares[k] = 0;
    for (int64_t row = 0; row < g.rows; ++row) {
        const float *picture = z + row * g.area * width;
        const double before = static_cast<double>(row * g.area), here = static_cast<double>(g.area), total = before + here;
        channelwise(width, [&](int64_t k, auto zero) __attribute__((always_inline)) {
            using V = decltype(zero);
            const V pivot = take<V>(picture + k);
            V sum = zero, square = zero;
            for (int64_t p = 0; p < g.area; ++p) {
                const V d = take<V>(picture + p * width + k) - pivot;
                sum += d;
                square += d * d;
            }
            float pivots[few], sums[few], all[few];
            put(pivots, pivot), put(sums, sum), put(all, square);
            for (size_t lane = 0; lane < sizeof(V) / sizeof(float); ++lane) {
                const double shift = static_cast<double>(sums[lane]) / here, own = static_cast<double>(pivots[lane]) + shift;
                const double spread = static_cast<double>(all[lane]) - here * shift * shift;
                double &m = mean[k + static_cast<int64_t>(lane)], &s = squares[k + static_cast<int64_t>(lane)];
                const double difference = own - m;
                m += difference * (here / total);
                s += (spread > 0 ? spread : 0) + difference * difference * (before * here / total);
            }
        });
    }
}

// max(0, z · slope + offset).
static void normRelu(const NormGeometry &g, const Norm &norm, const float *z, float *out) {
    const int64_t width = g.width();
    for (int64_t p = 0; p < g.rows * g.area; ++p, z += width, out += width)
        channelwise(width, [&](int64_t k, auto zero) __attribute__((always_inline)) {
            using V = decltype(zero);
            put(out + k, positive(take<V>(z + k) * take<V>(norm.slope + k) + take<V>(norm.offset + k)));
        });
}

// Sums over positions of the gradient by the norm's output, and of its product with the normalised input.
static void normReluSums(const NormGeometry &g, const Norm &norm, const float *z, const float *by, double *sums, double *products) {
    const int64_t width = g.width();
    for (int64_t k = 0; k < width; ++k) sums[k] = products[k] = 0;
    for (int64_t row = 0; row < g.rows; ++row) {
        const float *picture = z + row * g.area * width, *slopes = by + row * g.area * width;
        channelwise(width, [&](int64_t k, auto zero) __attribute__((always_inline)) {
            using V = decltype(zero);
            const V slope = take<V>(norm.slope + k), offset = take<V>(norm.offset + k), inverse = take<V>(norm.inverse + k), centre = take<V>(norm.centre + k);
            V sum = zero, product = zero;
            for (int64_t p = 0; p < g.area; ++p) {
                const V value = take<V>(picture + p * width + k), d = where(value * slope + offset, take<V>(slopes + p * width + k));
                sum += d;
                product += d * ((value - centre) * inverse);
            }
            addTo(sums + k, sum);
            addTo(products + k, product);
        });
    }
}

// The gradient by the norm's input: slope · (d − mean d − normalised · mean (d · normalised)); the means are given.
static void normReluInput(const NormGeometry &g, const Norm &norm, const float *z, const float *by, const float *mean, const float *meanProduct, float *out) {
    const int64_t width = g.width();
    for (int64_t p = 0; p < g.rows * g.area; ++p, z += width, by += width, out += width)
        channelwise(width, [&](int64_t k, auto zero) __attribute__((always_inline)) {
            using V = decltype(zero);
            const V value = take<V>(z + k), slope = take<V>(norm.slope + k), d = where(value * slope + take<V>(norm.offset + k), take<V>(by + k));
            const V normal = (value - take<V>(norm.centre + k)) * take<V>(norm.inverse + k);
            put(out + k, slope * (d - take<V>(mean + k) - normal * take<V>(meanProduct + k)));
        });
}

// max(0, x + Σ over units of share · (z · slope + offset)); `room` has a number for each of the units' channels, and one more for each channel.
static void normMix(const NormGeometry &g, const Norm &norm, const float *z, const float *shares, const float *x, float *room, float *out) {
    const int64_t width = g.width(), channels = g.channels;
    float *offsets = room + width;
    for (int64_t row = 0; row < g.rows; ++row) {
        const float *share = shares + row * g.units;
        for (int64_t c = 0; c < channels; ++c) offsets[c] = 0;
        for (int64_t m = 0; m < g.units; ++m)
            for (int64_t c = 0; c < channels; ++c) {
                room[m * channels + c] = share[m] * norm.slope[m * channels + c];
                offsets[c] += share[m] * norm.offset[m * channels + c];
            }
        for (int64_t p = 0; p < g.area; ++p, z += width, x += channels, out += channels)
            channelwise(channels, [&](int64_t c, auto zero) __attribute__((always_inline)) {
                using V = decltype(zero);
                V sum = take<V>(x + c) + take<V>(offsets + c);
                for (int64_t m = 0; m < g.units; ++m) sum += take<V>(room + m * channels + c) * take<V>(z + m * channels + c);
                put(out + c, positive(sum));
            });
    }
}

// From the gradient by the mix: that by what it was added to (`byX`), by the shares, and the sums as above; `room` as above.
static void normMixSums(
    const NormGeometry &g, const Norm &norm, const float *z, const float *shares, const float *mixed, const float *by, float *room, float *byX, float *byShares,
    double *sums, double *products) {
    const int64_t width = g.width(), channels = g.channels;
    for (int64_t k = 0; k < width; ++k) sums[k] = products[k] = 0;
    for (int64_t row = 0; row < g.rows; ++row) {
        const float *picture = z + row * g.area * width, *share = shares + row * g.units, *out = mixed + row * g.area * channels, *slopes = by + row * g.area * channels;
        float *d = byX + row * g.area * channels, *total = room + width;
        channelwise(channels, [&](int64_t c, auto zero) __attribute__((always_inline)) {
            using V = decltype(zero);
            V sum = zero;
            for (int64_t p = 0; p < g.area; ++p) {
                const V here = where(take<V>(out + p * channels + c), take<V>(slopes + p * channels + c));
                put(d + p * channels + c, here);
                sum += here;
            }
            put(total + c, sum);
            for (int64_t m = 0; m < g.units; ++m) {
                V product = zero;
                for (int64_t p = 0; p < g.area; ++p) product += take<V>(d + p * channels + c) * take<V>(picture + p * width + m * channels + c);
                put(room + m * channels + c, product);
            }
        });
        for (int64_t m = 0; m < g.units; ++m) {
            double byShare = 0;
            for (int64_t c = 0; c < channels; ++c) {
                const int64_t k = m * channels + c;
                const double one = static_cast<double>(total[c]), two = static_cast<double>(room[k]);
                byShare += static_cast<double>(norm.slope[k]) * two + static_cast<double>(norm.offset[k]) * one;
                sums[k] += static_cast<double>(share[m]) * one;
                products[k] += static_cast<double>(share[m]) * static_cast<double>(norm.inverse[k]) * (two - static_cast<double>(norm.centre[k]) * one);
            }
            byShares[row * g.units + m] = static_cast<float>(byShare);
        }
    }
}

// The gradient by the units' outputs before their norm; the means as above.
static void normMixInput(
    const NormGeometry &g, const Norm &norm, const float *z, const float *shares, const float *byX, const float *mean, const float *meanProduct, float *out) {
    const int64_t width = g.width(), channels = g.channels;
    for (int64_t row = 0; row < g.rows; ++row)
        for (int64_t p = 0; p < g.area; ++p, z += width, byX += channels, out += width)
            for (int64_t m = 0; m < g.units; ++m) {
                const float share = shares[row * g.units + m];
                const int64_t first = m * channels;
                channelwise(channels, [&](int64_t c, auto zero) __attribute__((always_inline)) {
                    using V = decltype(zero);
                    const int64_t k = first + c;
                    const V normal = (take<V>(z + k) - take<V>(norm.centre + k)) * take<V>(norm.inverse + k);
                    put(out + k, take<V>(norm.slope + k) * (take<V>(byX + c) * share - take<V>(mean + k) - normal * take<V>(meanProduct + k)));
                });
            }
}
