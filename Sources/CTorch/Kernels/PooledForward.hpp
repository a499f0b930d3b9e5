// Convolution and 2×2 max-pooling of one image. Included by Level.hpp only.
//
// Outputs are the lanes; the four corners of a window, or of two side by side, and vectors of outputs are sums in registers: twelve or so of sixteen, twenty-four
// or so of AVX-512's thirty-two. Patches are read in place, number by number: nothing is unfolded. So many numbers of the patch are taken at a time that their
// weights stay in the first-level cache over all windows.

constexpr int vectorsMax = lanes == 16 ? 4 : 3;
constexpr int64_t chunkBytes = 14 * 1024;

ACCRUE_INLINE int64_t vectors(int64_t count) { return (count + lanes - 1) / lanes; }

// Vectors of the next tile when `left` are to be done: as even as can be.
ACCRUE_INLINE int64_t nextTile(int64_t left, int64_t most) {
    const int64_t tiles = (left + most - 1) / most;
    return (left + tiles - 1) / tiles;
}

static int64_t packedCount(int64_t outputs, int64_t inputs) { return vectors(outputs) * lanes * inputs; }

// Weights [outputs, inputs] in tiles of at most `most` vectors of outputs: tile, input, outputs of the tile; zeros beyond the outputs.
static void packTiles(const float *weight, int64_t outputs, int64_t inputs, int64_t most, float *packed) {
    for (int64_t first = 0, all = vectors(outputs); first < all;) {
        const int64_t tile = nextTile(all - first, most), width = tile * lanes;
        for (int64_t column = 0; column < width; ++column) {
            const int64_t output = first * lanes + column;
            for (int64_t k = 0; k < inputs; ++k) packed[k * width + column] = output < outputs ? weight[output * inputs + k] : 0.0f;
        }
        packed += inputs * width;
        first += tile;
    }
}

// Weights [outputs, patch] as `convolve` reads them.
static void packWeights(const float *weight, int64_t outputs, int64_t patch, float *packed) { packTiles(weight, outputs, patch, vectorsMax, packed); }

template <int V> ACCRUE_INLINE void addProducts(F (&sums)[V], float number, const F (&weights)[V]) {
    const F x = number;
    for (int v = 0; v < V; ++v) {
        sums[v] += x * weights[v];
        inRegister(sums[v]);
    }
}

// A stretch of the patch of W windows side by side, of which the first begins at `from`.
template <int V, int W>
ACCRUE_INLINE void convolveWindows(
    const PooledGeometry &g, const float *from, const int32_t *offsets, const float *packed, int64_t start, int64_t end, float *sums, int64_t stride) {
    F sum[4 * W][V];
    const float *places[4 * W];
    for (int position = 0; position < 4 * W; ++position) {
        const int corner = position % 4;
        places[position] = from + (2 * (position / 4) + corner % 2) * g.channels + corner / 2 * g.line;
        for (int v = 0; v < V; ++v) sum[position][v] = start == 0 ? F(0.0f) : load(sums + position * stride + v * lanes);
    }
    const float *w = packed + start * V * lanes;
    for (int64_t k = start; k < end; ++k, w += V * lanes) {
        // One number of the patch at a time: sums and weights take nearly all registers.
        const int64_t at = offsets[k];
        F weights[V];
        for (int v = 0; v < V; ++v) weights[v] = load(w + v * lanes);
        for (int position = 0; position < 4 * W; ++position) addProducts<V>(sum[position], places[position][at], weights);
    }
    for (int position = 0; position < 4 * W; ++position)
        for (int v = 0; v < V; ++v) store(sums + position * stride + v * lanes, sum[position][v]);
}

template <int V>
ACCRUE_INLINE void convolveTile(const PooledGeometry &g, const float *image, const int32_t *offsets, const float *packed, float *sums, int64_t stride) {
    constexpr int64_t chunk = chunkBytes / (V * lanes * 4);
    constexpr int together = lanes == 16 && V < 4 ? 2 : 1;
    const int64_t patch = g.patch();
    for (int64_t start = 0; start < patch; start += chunk) {
        const int64_t end = start + chunk < patch ? start + chunk : patch;
        float *out = sums;
        for (int64_t y = 0; y < g.high; ++y) {
            const float *from = image + 2 * y * g.line;
            int64_t x = 0;
            for (; x + together <= g.wide; x += together, from += 2 * together * g.channels, out += 4 * together * stride)
                convolveWindows<V, together>(g, from, offsets, packed, start, end, out, stride);
            for (; x < g.wide; ++x, from += 2 * g.channels, out += 4 * stride) convolveWindows<V, 1>(g, from, offsets, packed, start, end, out, stride);
        }
    }
}

// Sums [windows, 4, vectors(outputs) · lanes] of every position's patch times the weights; `offsets` says where in the image a patch's numbers lie.
static void convolve(const PooledGeometry &g, const float *image, const int32_t *offsets, const float *packed, float *sums) {
    const int64_t all = vectors(g.outputs), stride = all * lanes;
    for (int64_t first = 0; first < all;) {
        const int64_t tile = nextTile(all - first, vectorsMax);
        float *out = sums + first * lanes;
        switch (tile) {
        case 1: convolveTile<1>(g, image, offsets, packed, out, stride); break;
        case 2: convolveTile<2>(g, image, offsets, packed, out, stride); break;
        case 3: convolveTile<3>(g, image, offsets, packed, out, stride); break;
        default: convolveTile<vectorsMax>(g, image, offsets, packed, out, stride);
        }
        packed += g.patch() * tile * lanes;
        first += tile;
    }
}

// The largest of each window's four sums plus bias, cut at zero, and which it was. A value that is not a number wins and stays.
// With `spreads` (variances' sums) a normal of its own is added to each position first, times the root of the variance; `rates` is then half the normal
// over that root where the winner stood: the slope of the output by the variance. `normals` are [windows, 4, outputs].
template <bool noisy>
ACCRUE_INLINE void poolWindows(
    const PooledGeometry &g, const float *sums, const float *bias, const float *spreads, const float *spreadBias, const float *normals, float *out,
    uint8_t *winners, float *rates) {
    const int64_t stride = vectors(g.outputs) * lanes;
    for (int64_t window = 0, windows = g.windows(); window < windows; ++window)
        for (int64_t o = 0; o < g.outputs; o += lanes) {
            F best = 0.0f, scale = 1.0f, luck = 0.0f;
            I winner = 0;
            const F floor = noisy ? load(spreadBias + o) + 1e-16f : F(0.0f);
            for (int corner = 0; corner < 4; ++corner) {
                const int64_t at = (4 * window + corner) * stride + o;
                F value = load(sums + at), deviation = 1.0f, normal = 0.0f;
                if (noisy) {
                    deviation = root(load(spreads + at) + floor);
                    normal = load(normals + (4 * window + corner) * g.outputs + o);
                    value += deviation * normal;
                }
                const I larger = corner == 0 ? I(-1) : (value > best) | (value != value);
                best = larger ? value : best;
                winner = larger ? I(corner) : winner;
                if (noisy) {
                    scale = larger ? deviation : scale;
                    luck = larger ? normal : luck;
                }
            }
            best += load(bias + o);
            const I dead = best <= F(0.0f);
            const int64_t count = g.outputs - o < lanes ? g.outputs - o : lanes, to = window * g.outputs + o;
            store(out + to, dead ? F(0.0f) : best, count);
            winner = dead ? I(none) : winner;
            if (noisy || winners != nullptr)
                for (int64_t lane = 0; lane < count; ++lane) winners[to + lane] = static_cast<uint8_t>(winner[lane]);
            if (noisy) store(rates + to, luck * 0.5f / scale, count);
        }
}

static void pool(const PooledGeometry &g, const float *sums, const float *bias, float *out, uint8_t *winners) {
    poolWindows<false>(g, sums, bias, nullptr, nullptr, nullptr, out, winners, nullptr);
}

static void poolNoisy(
    const PooledGeometry &g, const float *sums, const float *bias, const float *spreads, const float *spreadBias, const float *normals, float *out,
    uint8_t *winners, float *rates) {
    poolWindows<true>(g, sums, bias, spreads, spreadBias, normals, out, winners, rates);
}
