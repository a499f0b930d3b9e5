// One pass over parameters or outputs for everything that is done to them. Included by Level.hpp only.

// exp(x) − 1 and exp(x) for |x| up to 87 (Cephes' single-precision polynomial, Moshier): x = n log 2 + r, exp(x) − 1 = 2ⁿ(exp(r) − 1) + (2ⁿ − 1).
struct Exponential {
    F value, lessOne;
};

ACCRUE_INLINE Exponential exponential(F x) {
    x = __builtin_elementwise_min(__builtin_elementwise_max(x, F(-87.0f)), F(87.0f));
    // Adding 1.5 · 2²³ rounds to a whole number, which then stands in the low bits.
    const F rounded = x * 1.44269504088896341f + 12582912.0f, n = rounded - 12582912.0f;
    const F power = bits((bits(rounded) - 0x4B400000u + 127u) << 23);
    const F r = x - n * 0.693359375f - n * -2.12194440e-4f;
    F p = r * 1.9875691500e-4f + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    const F less = p * r * r + r;
    return {power * less + power, power * less + (power - 1.0f)};
}

// Kernels below work on whole vectors; what is left at the end passes through short copies.
ACCRUE_INLINE F part(const float *from, int64_t count) {
    if (count >= lanes) return load(from);
    F value = 0.0f;
    for (int64_t lane = 0; lane < count; ++lane) value[lane] = from[lane];
    return value;
}

// One step of Adam on a vector; the new weight.
ACCRUE_INLINE F adamStep(const AdamRates &r, F weight, F gradient, F &first, F &second) {
    first = first * r.beta1 + gradient * (1.0f - r.beta1);
    second = second * r.beta2 + gradient * gradient * (1.0f - r.beta2);
    return weight - first * r.step / (root(second * r.scale) + r.epsilon);
}

static void adam(
    const AdamRates &r, int64_t count, const float *weight, const float *gradient, const float *first, const float *second, const float *centre,
    const float *strength, float *weightOut, float *firstOut, float *secondOut) {
    for (int64_t at = 0; at < count; at += lanes) {
        const int64_t some = count - at;
        F w = part(weight + at, some), g = part(gradient + at, some), m = part(first + at, some), v = part(second + at, some);
        if (centre != nullptr) g += (w - part(centre + at, some)) * part(strength + at, some);
        w = adamStep(r, w, g, m, v);
        store(weightOut + at, w, some);
        store(firstOut + at, m, some);
        store(secondOut + at, v, some);
    }
}

// σ² = exp(2 log σ), log σ cut to a range.
static void variances(int64_t count, const float *logScale, float low, float high, float *out) {
    for (int64_t at = 0; at < count; at += lanes) {
        const F scale = __builtin_elementwise_min(__builtin_elementwise_max(part(logScale + at, count - at), F(low)), F(high));
        store(out + at, exponential(scale * 2.0f).value, count - at);
    }
}

// Adam on mean and log σ of a factorised Gaussian, from the likelihood's gradients by mean and by σ². KL's are added: share · (μ − μ₀) / σ₀² and
// share · (exp(2 log σ/σ₀) − 1). Outside of its range log σ has no gradient from the likelihood.
static void factorisedAdam(const AdamRates &r, const FactorisedStep &s, int64_t count) {
    for (int64_t at = 0; at < count; at += lanes) {
        const int64_t some = count - at;
        F mean = part(s.mean + at, some), scale = part(s.logScale + at, some);
        const F priorScale = part(s.priorLogScale + at, some);
        F g = part(s.byMean + at, some) + (mean - part(s.priorMean + at, some)) * exponential(priorScale * -2.0f).value * s.share;
        F m = part(s.moments[0] + at, some), v = part(s.moments[1] + at, some);
        mean = adamStep(r, mean, g, m, v);
        store(s.meanOut + at, mean, some);
        store(s.momentsOut[0] + at, m, some);
        store(s.momentsOut[1] + at, v, some);
        const I inside = (scale >= F(s.low)) & (scale <= F(s.high));
        const F slope = part(s.byVariance + at, some) * exponential(scale * 2.0f).value * 2.0f;
        g = (inside ? slope : F(0.0f)) + exponential((scale - priorScale) * 2.0f).lessOne * s.share;
        m = part(s.moments[2] + at, some), v = part(s.moments[3] + at, some);
        scale = adamStep(r, scale, g, m, v);
        store(s.logScaleOut + at, scale, some);
        store(s.momentsOut[2] + at, m, some);
        store(s.momentsOut[3] + at, v, some);
    }
}

// Slopes of a penalty by mean and by log σ.
struct Slopes {
    F byMean, byScale;
};

template <int penalty> ACCRUE_INLINE Slopes penaltySlopes(const SparseStep &s, F mean, F variance, F scale, int64_t at, int64_t some) {
    if (penalty == penaltyGaussian) {
        const F precision = s.precision == nullptr ? F(s.a) : part(s.precision + at, some);
        return {precision * mean, precision * variance - 1.0f};
    }
    const F square = mean * mean;
    if (penalty == penaltyAutomatic) {
        // a σ² / (E + b) − 1, without the difference of two numbers near 1.
        const F over = 1.0f / (square + variance + s.b);
        return {mean * over * s.a, (variance * (s.a - 1.0f) - square - s.b) * over};
    }
    const F floored = square + 1e-8f;
    const F alpha = __builtin_elementwise_min(__builtin_elementwise_max(scale * 2.0f - logarithm(floored), F(-40.0f)), F(40.0f));
    const F less = 1.0f / (exponential(alpha).value + 1.0f), up = 1.0f / (exponential(alpha * -1.48695f - 1.87320f).value + 1.0f);
    const F slope = less * -0.5f - up * (1.0f - up) * (0.63576f * 1.48695f);
    return {mean / floored * slope * -2.0f, slope * 2.0f};
}

// As factorisedAdam, under quadratic sites ½ λ (μ² + σ²) − η μ and a penalty without a fixed prior.
template <int penalty> static void sparseAdamOf(const AdamRates &r, const SparseStep &s, int64_t count) {
    for (int64_t at = 0; at < count; at += lanes) {
        const int64_t some = count - at;
        F mean = part(s.mean + at, some), scale = part(s.logScale + at, some);
        const F variance = exponential(scale * 2.0f).value;
        const Slopes slopes = penaltySlopes<penalty>(s, mean, variance, scale, at, some);
        F byMean = slopes.byMean * s.weight, byScale = slopes.byScale * s.weight;
        if (s.sitePrecision != nullptr) {
            const F precision = part(s.sitePrecision + at, some);
            byMean += precision * mean - part(s.sitePrecisionMean + at, some);
            byScale += precision * variance;
        }
        F m = part(s.moments[0] + at, some), v = part(s.moments[1] + at, some);
        mean = adamStep(r, mean, part(s.byMean + at, some) + byMean * s.share, m, v);
        store(s.meanOut + at, mean, some);
        store(s.momentsOut[0] + at, m, some);
        store(s.momentsOut[1] + at, v, some);
        const I inside = (scale >= F(s.low)) & (scale <= F(s.high));
        const F slope = part(s.byVariance + at, some) * variance * 2.0f;
        m = part(s.moments[2] + at, some), v = part(s.moments[3] + at, some);
        scale = adamStep(r, scale, (inside ? slope : F(0.0f)) + byScale * s.share, m, v);
        store(s.logScaleOut + at, scale, some);
        store(s.momentsOut[2] + at, m, some);
        store(s.momentsOut[3] + at, v, some);
    }
}

static void sparseAdam(const AdamRates &r, const SparseStep &s, int64_t count) {
    switch (s.penalty) {
    case penaltyGaussian: return sparseAdamOf<penaltyGaussian>(r, s, count);
    case penaltyAutomatic: return sparseAdamOf<penaltyAutomatic>(r, s, count);
    default: return sparseAdamOf<penaltyLogUniform>(r, s, count);
    }
}

constexpr int64_t noiseAtOnce = 1024;

// mean + √(variance + 10⁻¹⁶) · normal, and the slope by the variance, normal / 2√…; `variance` and `rates` may be one.
static void addNoise(uint64_t high, uint64_t low, int64_t count, const float *mean, const float *variance, float *out, float *rates) {
    float noise[noiseAtOnce];
    for (int64_t start = 0; start < count; start += noiseAtOnce) {
        const int64_t end = start + noiseAtOnce < count ? start + noiseAtOnce : count;
        normals(high, low, static_cast<uint64_t>(start), end - start, noise);
        for (int64_t at = start; at < end; at += lanes) {
            const int64_t some = end - at;
            const F deviation = root(part(variance + at, some) + 1e-16f), normal = part(noise + at - start, some);
            store(out + at, part(mean + at, some) + deviation * normal, some);
            store(rates + at, normal * 0.5f / deviation, some);
        }
    }
}

// mean + scale · deviation · normal.
static void draw(uint64_t high, uint64_t low, int64_t count, const float *mean, const float *deviation, float scale, float *out) {
    float noise[noiseAtOnce];
    for (int64_t start = 0; start < count; start += noiseAtOnce) {
        const int64_t end = start + noiseAtOnce < count ? start + noiseAtOnce : count;
        normals(high, low, static_cast<uint64_t>(start), end - start, noise);
        for (int64_t at = start; at < end; at += lanes)
            store(out + at, part(mean + at, end - at) + part(deviation + at, end - at) * scale * part(noise + at - start, end - at), end - at);
    }
}

// One online Newton step and the next draw (Shen et al. 2024, Algorithm 1). H = h + δ; the Hessian's estimate is gradient · (draw − mean) · count · H, and H
// moves by a + a²/2H with a the gain's share of the way to it, which halves H at most; H is held at floor · δ. NaN passes through.
static void newton(const NewtonRates &r, const NewtonStep &s, uint64_t high, uint64_t low, int64_t count) {
    float noise[noiseAtOnce];
    for (int64_t start = 0; start < count; start += noiseAtOnce) {
        const int64_t end = start + noiseAtOnce < count ? start + noiseAtOnce : count;
        normals(high, low, static_cast<uint64_t>(start), end - start, noise);
        for (int64_t at = start; at < end; at += lanes) {
            const int64_t some = end - at;
            const F damping = part(s.damping + at, some), hessian = part(s.hessian + at, some), g = part(s.gradient + at, some);
            F mean = part(s.mean + at, some), whole = hessian + damping;
            const F away = (g * (part(s.draw + at, some) - mean) * r.count * whole - hessian) * r.gain;
            whole = whole + away + away * away * 0.5f / whole;
            const F least = damping * r.floor;
            const I under = whole < least;
            whole = under ? least : whole;
            const F momentum = part(s.momentum + at, some) * r.beta1 + g * (1.0f - r.beta1);
            F step = (momentum * r.scale + damping * (mean - part(s.centre + at, some))) / whole;
            const I above = step > F(r.longest), below = step < F(-r.longest);
            step = above ? F(r.longest) : step;
            step = below ? F(-r.longest) : step;
            mean = mean - step * r.rate;
            store(s.momentumOut + at, momentum, some);
            store(s.hessianOut + at, whole - damping, some);
            store(s.meanOut + at, mean, some);
            store(s.drawOut + at, mean + part(noise + at - start, some) / root(whole * r.count), some);
        }
    }
}
