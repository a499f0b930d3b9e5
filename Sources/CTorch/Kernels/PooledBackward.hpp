// Gradients of a pooled convolution. Included by Level.hpp only.
//
// Pooling and ReLU let at most one position in four through, so products with the gradient are sums over the few places where it is not zero: for each
// output a list of patches, for each position a list of outputs.

constexpr int gatherMax = 6;

// A patch in vectors: rows begin anew, so the last vector of a row may reach beyond it. Gradients and weights of this layout have zeros, or numbers
// that nobody reads, there.
static int64_t patchCount(int64_t rows, int64_t run) { return rows * vectors(run) * lanes; }

ACCRUE_INLINE int64_t offset(const PooledGeometry &g, int64_t vector, int64_t perRow) { return vector / perRow * g.line + vector % perRow * lanes; }

template <bool noisy, int T>
ACCRUE_INLINE void gatherPatches(
    const int64_t *offsets, const float *x, const float *squares, const Spot *spots, int64_t count, float *mean, float *variance) {
    F m[T], s[T];
    for (int t = 0; t < T; ++t) {
        m[t] = load(mean + t * lanes);
        if (noisy) s[t] = load(variance + t * lanes);
    }
    for (int64_t index = 0; index < count; ++index) {
        const Spot spot = spots[index];
        const F slope = spot.slope, rate = spot.rate;
        for (int t = 0; t < T; ++t) {
            m[t] += slope * load(x + spot.place + offsets[t]);
            if (noisy) s[t] += rate * load(squares + spot.place + offsets[t]);
        }
    }
    for (int t = 0; t < T; ++t) {
        store(mean + t * lanes, m[t]);
        if (noisy) store(variance + t * lanes, s[t]);
    }
}

// Adds Σ slope · patch (and Σ rate · patch²) over one output's spots to its gradient, in the layout of `patchCount`.
template <bool noisy>
ACCRUE_INLINE void weightGradient(
    const PooledGeometry &g, const float *x, const float *squares, const Spot *spots, int64_t count, float *mean, float *variance) {
    const int64_t perRow = vectors(g.run), all = g.rows * perRow;
    for (int64_t first = 0; first < all;) {
        const int64_t tile = nextTile(all - first, gatherMax);
        int64_t offsets[gatherMax];
        for (int64_t t = 0; t < tile; ++t) offsets[t] = offset(g, first + t, perRow);
        float *m = mean + first * lanes, *s = noisy ? variance + first * lanes : nullptr;
        switch (tile) {
        case 1: gatherPatches<noisy, 1>(offsets, x, squares, spots, count, m, s); break;
        case 2: gatherPatches<noisy, 2>(offsets, x, squares, spots, count, m, s); break;
        case 3: gatherPatches<noisy, 3>(offsets, x, squares, spots, count, m, s); break;
        case 4: gatherPatches<noisy, 4>(offsets, x, squares, spots, count, m, s); break;
        case 5: gatherPatches<noisy, 5>(offsets, x, squares, spots, count, m, s); break;
        default: gatherPatches<noisy, 6>(offsets, x, squares, spots, count, m, s);
        }
        first += tile;
    }
}

static void patchSums(const PooledGeometry &g, const float *x, const float *squares, const Spot *spots, int64_t count, float *mean, float *variance) {
    if (variance != nullptr) weightGradient<true>(g, x, squares, spots, count, mean, variance);
    else weightGradient<false>(g, x, squares, spots, count, mean, nullptr);
}

template <int T> ACCRUE_INLINE void gatherSquares(const int64_t *offsets, const float *x, const Spot *spots, int64_t count, float *sums) {
    F m[T];
    for (int t = 0; t < T; ++t) m[t] = 0.0f;
    for (int64_t index = 0; index < count; ++index)
        for (int t = 0; t < T; ++t) m[t] += F(spots[index].slope) * load(x + spots[index].place + offsets[t]);
    for (int t = 0; t < T; ++t) store(sums + t * lanes, load(sums + t * lanes) + m[t] * m[t]);
}

// Adds (Σ slope · patch)², number by number, over one output's spots in one image.
static void patchSquares(const PooledGeometry &g, const float *x, const Spot *spots, int64_t count, float *sums) {
    const int64_t perRow = vectors(g.run), all = g.rows * perRow;
    for (int64_t first = 0; first < all;) {
        const int64_t tile = nextTile(all - first, gatherMax);
        int64_t offsets[gatherMax];
        for (int64_t t = 0; t < tile; ++t) offsets[t] = offset(g, first + t, perRow);
        float *out = sums + first * lanes;
        switch (tile) {
        case 1: gatherSquares<1>(offsets, x, spots, count, out); break;
        case 2: gatherSquares<2>(offsets, x, spots, count, out); break;
        case 3: gatherSquares<3>(offsets, x, spots, count, out); break;
        case 4: gatherSquares<4>(offsets, x, spots, count, out); break;
        case 5: gatherSquares<5>(offsets, x, spots, count, out); break;
        default: gatherSquares<6>(offsets, x, spots, count, out);
        }
        first += tile;
    }
}

template <bool noisy, int T>
ACCRUE_INLINE void gatherWeights(
    const int64_t *offsets, const float *mean, const float *variance, int64_t stride, const Spot *spots, int64_t count, const float *x, float *gradient) {
    F m[T], s[T];
    for (int t = 0; t < T; ++t) m[t] = 0.0f, s[t] = 0.0f;
    for (int64_t index = 0; index < count; ++index) {
        const Spot spot = spots[index];
        const F slope = spot.slope, rate = spot.rate;
        for (int t = 0; t < T; ++t) {
            m[t] += slope * load(mean + spot.place * stride + t * lanes);
            if (noisy) s[t] += rate * load(variance + spot.place * stride + t * lanes);
        }
    }
    for (int t = 0; t < T; ++t) {
        F sum = load(gradient + offsets[t]) + m[t];
        if (noisy) sum += (load(x + offsets[t]) * 2.0f) * s[t];
        store(gradient + offsets[t], sum);
    }
}

template <bool noisy>
ACCRUE_INLINE void inputGradient(
    const PooledGeometry &g, const float *mean, const float *variance, const Spot *spots, const int64_t *counts, const float *x, float *gradient) {
    const int64_t perRow = vectors(g.run), all = g.rows * perRow, stride = all * lanes;
    for (int64_t first = 0; first < all;) {
        const int64_t tile = nextTile(all - first, gatherMax);
        int64_t offsets[gatherMax];
        for (int64_t t = 0; t < tile; ++t) offsets[t] = offset(g, first + t, perRow);
        const float *m = mean + first * lanes, *s = noisy ? variance + first * lanes : nullptr;
        for (int64_t position = 0; position < 4 * g.windows(); ++position) {
            const int64_t count = counts[position], at = g.place(position / 4, position % 4);
            const Spot *list = spots + position * g.outputs;
            if (count == 0) continue;
            switch (tile) {
            case 1: gatherWeights<noisy, 1>(offsets, m, s, stride, list, count, x + at, gradient + at); break;
            case 2: gatherWeights<noisy, 2>(offsets, m, s, stride, list, count, x + at, gradient + at); break;
            case 3: gatherWeights<noisy, 3>(offsets, m, s, stride, list, count, x + at, gradient + at); break;
            case 4: gatherWeights<noisy, 4>(offsets, m, s, stride, list, count, x + at, gradient + at); break;
            case 5: gatherWeights<noisy, 5>(offsets, m, s, stride, list, count, x + at, gradient + at); break;
            default: gatherWeights<noisy, 6>(offsets, m, s, stride, list, count, x + at, gradient + at);
            }
        }
        first += tile;
    }
}

static void scatter(
    const PooledGeometry &g, const float *mean, const float *variance, const Spot *spots, const int64_t *counts, const float *x, float *gradient) {
    if (variance != nullptr) inputGradient<true>(g, mean, variance, spots, counts, x, gradient);
    else inputGradient<false>(g, mean, nullptr, spots, counts, x, gradient);
}
