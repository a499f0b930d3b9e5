// Optimiser steps in one pass over memory.
#include "Failure.hpp"
#include <cmath>

using namespace ct;

extern "C" {

ct_tensor ct_pulled(ct_tensor gradient, ct_tensor weight, ct_tensor centre, ct_tensor strength) {
    return make([&]() -> at::Tensor {
        const auto g = get(gradient).contiguous(), w = get(weight).contiguous(), c = get(centre).contiguous(), s = get(strength).contiguous();
        TORCH_CHECK(g.sizes() == w.sizes() && g.sizes() == c.sizes() && g.sizes() == s.sizes(), "gradient ", g.sizes(), ", weights ", w.sizes(), ", centre ", c.sizes(), " and strength ", s.sizes());
        for (const auto &a : {g, w, c, s})
            if (a.scalar_type() != at::kFloat) return g + (w - c) * s;
        auto result = at::empty_like(g);
        const float *gp = g.data_ptr<float>(), *wp = w.data_ptr<float>(), *cp = c.data_ptr<float>(), *sp = s.data_ptr<float>();
        float *out = result.data_ptr<float>();
        for (int64_t index = 0, count = g.numel(); index < count; ++index) out[index] = gp[index] + (wp[index] - cp[index]) * sp[index];
        return result;
    });
}

ct_tensor ct_blend(ct_tensor a, ct_tensor b, double share) {
    return make([&] { return at::lerp(get(a), get(b), share); });
}

int32_t ct_adam_step(
    ct_tensor weight, ct_tensor gradient, ct_tensor first, ct_tensor second, double rate, double beta1, double beta2, double correction, double epsilon,
    ct_tensor *out) {
    return attempt<int32_t>(-1, [&] {
        const auto w = get(weight).contiguous(), g = get(gradient).contiguous(), m = get(first).contiguous(), v = get(second).contiguous();
        TORCH_CHECK(w.scalar_type() == at::kFloat && g.scalar_type() == at::kFloat && m.scalar_type() == at::kFloat && v.scalar_type() == at::kFloat, "Adam takes F32 tensors");
        TORCH_CHECK(w.sizes() == g.sizes() && w.sizes() == m.sizes() && w.sizes() == v.sizes(), "weights ", w.sizes(), ", gradient ", g.sizes(), ", moments ", m.sizes(), " and ", v.sizes());
        auto w2 = at::empty_like(w), m2 = at::empty_like(m), v2 = at::empty_like(v);
        const float *wp = w.data_ptr<float>(), *gp = g.data_ptr<float>(), *mp = m.data_ptr<float>(), *vp = v.data_ptr<float>();
        float *wo = w2.data_ptr<float>(), *mo = m2.data_ptr<float>(), *vo = v2.data_ptr<float>();
        const float b1 = static_cast<float>(beta1), b2 = static_cast<float>(beta2), a1 = static_cast<float>(1 - beta1), a2 = static_cast<float>(1 - beta2);
        const float step = static_cast<float>(rate), scale = static_cast<float>(1 / correction), eps = static_cast<float>(epsilon);
        for (int64_t index = 0, count = w.numel(); index < count; ++index) {
            const float grad = gp[index];
            mo[index] = b1 * mp[index] + a1 * grad;
            vo[index] = b2 * vp[index] + a2 * grad * grad;
            wo[index] = wp[index] - step * mo[index] / (std::sqrt(vo[index] * scale) + eps);
        }
        out[0] = wrap(w2);
        out[1] = wrap(m2);
        out[2] = wrap(v2);
        return 0;
    });
}
}
