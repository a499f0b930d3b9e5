// Dense layers for few rows at a time. Included by Level.hpp only.
//
// Outputs are the lanes, and every sum runs over the inputs in their order, so a row's outputs are the same bits whatever rows stand beside it. Inputs that are
// zero in all rows at hand, as half are behind a ReLU, are left out together with their weights, which for one row need not even be read from memory: adding
// zero times a finite weight changes no sum.

constexpr int denseVectors = 6, denseRows = 4;
constexpr int64_t denseAhead = 12;

static int64_t placeCount(int64_t rows, int64_t inputs) { return (rows + denseRows - 1) / denseRows * (inputs + denseAhead + 1); }

// Weights [outputs, inputs] as `dense` reads them.
static void packDense(const float *weight, int64_t outputs, int64_t inputs, float *packed) { packTiles(weight, outputs, inputs, denseVectors, packed); }

// What a dense layer's rows have in common.
struct DenseTile {
    int64_t inputs, outputs, width;
    const int32_t *places;
    int64_t count;
    const float *bias;
    bool relu;
};

// R rows times V vectors of outputs, from output `first` on.
template <int R, int V> ACCRUE_INLINE void denseBlock(const DenseTile &t, const float *x, const float *packed, float *out, int64_t first) {
    F sums[R][V];
    for (int row = 0; row < R; ++row)
        for (int v = 0; v < V; ++v) sums[row][v] = 0.0f;
    for (int64_t index = 0; index < t.count; ++index) {
        const int64_t k = t.places[index];
        const float *w = packed + k * t.width;
        if (R == 1) {
            // The list is followed by copies of its last place.
            const float *ahead = packed + t.places[index + denseAhead] * t.width;
            for (int v = 0; v < V; v += 16 / (vectorBytes / 4)) __builtin_prefetch(ahead + v * lanes);
        }
        F weights[V];
        for (int v = 0; v < V; ++v) weights[v] = load(w + v * lanes);
        for (int row = 0; row < R; ++row) addProducts<V>(sums[row], x[row * t.inputs + k], weights);
    }
    for (int row = 0; row < R; ++row)
        for (int v = 0; v < V; ++v) {
            const int64_t o = first + v * lanes;
            const F sum = sums[row][v] + load(t.bias + o);
            store(out + row * t.outputs + o, t.relu ? (sum <= F(0.0f) ? F(0.0f) : sum) : sum, t.outputs - o);
        }
}

// R rows times all of a tile's vectors, up to `most` of them at a time.
template <int R> ACCRUE_INLINE void denseRowsOf(const DenseTile &t, const float *x, const float *packed, float *out, int64_t first) {
    for (int64_t done = 0, all = t.width / lanes; done < all;) {
        const int64_t some = nextTile(all - done, R > 2 ? 3 : denseVectors);
        const float *w = packed + done * lanes;
        const int64_t o = first + done * lanes;
        switch (some) {
        case 1: denseBlock<R, 1>(t, x, w, out, o); break;
        case 2: denseBlock<R, 2>(t, x, w, out, o); break;
        case 3: denseBlock<R, 3>(t, x, w, out, o); break;
        case 4: denseBlock<R, (R > 2 ? 1 : 4)>(t, x, w, out, o); break;
        case 5: denseBlock<R, (R > 2 ? 1 : 5)>(t, x, w, out, o); break;
        default: denseBlock<R, (R > 2 ? 1 : 6)>(t, x, w, out, o);
        }
        done += some;
    }
}

// out [rows, outputs] = x [rows, inputs] times the weights, plus bias, and a ReLU if wanted. `places` takes the inputs that are not zero, list after list for
// four rows each, and then how many they are. The bias can be read up to whole vectors.
static void dense(
    int64_t rows, int64_t inputs, int64_t outputs, const float *x, const float *packed, const float *bias, bool relu, int32_t *places, float *out) {
    const int64_t room = inputs + denseAhead;
    for (int64_t row = 0; row < rows; row += denseRows) {
        int32_t *list = places + row / denseRows * room;
        const int64_t some = rows - row < denseRows ? rows - row : denseRows;
        int64_t count = 0;
        for (int64_t k = 0; k < inputs; ++k) {
            bool any = false;
            for (int64_t r = 0; r < some; ++r) any |= x[(row + r) * inputs + k] != 0.0f;
            list[count] = static_cast<int32_t>(k);
            count += any;
        }
        const int32_t last = count > 0 ? list[count - 1] : 0;
        for (int64_t ahead = 0; ahead < denseAhead && count + ahead < room; ++ahead) list[count + ahead] = last;
        places[(rows + denseRows - 1) / denseRows * room + row / denseRows] = static_cast<int32_t>(count);
    }
    const int32_t *counts = places + (rows + denseRows - 1) / denseRows * room;
    for (int64_t first = 0, all = vectors(outputs); first < all;) {
        const int64_t tile = nextTile(all - first, denseVectors);
        for (int64_t row = 0; row < rows; row += denseRows) {
            const DenseTile t = {inputs, outputs, tile * lanes, places + row / denseRows * room, counts[row / denseRows], bias, relu};
            const float *from = x + row * inputs;
            float *to = out + row * outputs;
            switch (rows - row) {
            case 1: denseRowsOf<1>(t, from, packed, to, first * lanes); break;
            case 2: denseRowsOf<2>(t, from, packed, to, first * lanes); break;
            case 3:
                denseRowsOf<2>(t, from, packed, to, first * lanes);
                denseRowsOf<1>(t, from + 2 * inputs, packed, to + 2 * outputs, first * lanes);
                break;
            default: denseRowsOf<4>(t, from, packed, to, first * lanes);
            }
        }
        packed += inputs * tile * lanes;
        first += tile;
    }
}
