// Optimiser steps and what else passes once over all parameters.
#include "Failure.hpp"
#include "Kernels/Kernels.hpp"

using namespace ct;

namespace {

const float *floats(const at::Tensor &a) { return a.data_ptr<float>(); }

// Operands of one shape, F32, each in one piece.
std::vector<at::Tensor> alike(std::initializer_list<ct_tensor> list, const char *names) {
    std::vector<at::Tensor> result;
    for (auto tensor : list) {
        result.push_back(get(tensor).contiguous());
        TORCH_CHECK(result.back().scalar_type() == at::kFloat && result.back().is_cpu(), names, ": F32 tensors are needed");
        TORCH_CHECK(result.back().sizes() == result.front().sizes(), names, ": shapes ", result.front().sizes(), " and ", result.back().sizes());
    }
    return result;
}

AdamRates rates(const ct_adam *adam) {
    return {static_cast<float>(adam->beta1), static_cast<float>(adam->beta2), static_cast<float>(adam->rate), static_cast<float>(1 / adam->correction),
            static_cast<float>(adam->epsilon)};
}

}  // namespace

extern "C" {

ct_tensor ct_blend(ct_tensor a, ct_tensor b, double share) {
    return make([&] { return at::lerp(get(a), get(b), share); });
}

int32_t ct_adam_step(
    const ct_adam *adam, ct_tensor weight, ct_tensor gradient, ct_tensor first, ct_tensor second, ct_tensor centre, ct_tensor strength, ct_tensor *out) {
    return attempt<int32_t>(-1, [&] {
        const auto a = alike({weight, gradient, first, second}, "weights, gradient, moments");
        std::vector<at::Tensor> pull;
        if (centre != nullptr) pull = alike({weight, centre, strength}, "weights, centre, strength");
        at::Tensor made[] = {at::empty_like(a[0]), at::empty_like(a[0]), at::empty_like(a[0])};
        kernels().adam(
            rates(adam), a[0].numel(), floats(a[0]), floats(a[1]), floats(a[2]), floats(a[3]), pull.empty() ? nullptr : floats(pull[1]),
            pull.empty() ? nullptr : floats(pull[2]), made[0].data_ptr<float>(), made[1].data_ptr<float>(), made[2].data_ptr<float>());
        for (int index = 0; index < 3; ++index) out[index] = wrap(made[index]);
        return 0;
    });
}

int32_t ct_factorised_adam_step(const ct_adam *adam, const ct_factorised *factorised, ct_tensor *out) {
    return attempt<int32_t>(-1, [&] {
        const auto &f = *factorised;
        const auto a = alike(
            {f.mean, f.log_scale, f.by_mean, f.by_variance, f.prior_mean, f.prior_log_scale, f.mean_first, f.mean_second, f.scale_first, f.scale_second},
            "mean, log scale, gradients, prior, moments");
        at::Tensor made[6];
        for (auto &tensor : made) tensor = at::empty_like(a[0]);
        FactorisedStep step = {};
        step.mean = floats(a[0]), step.logScale = floats(a[1]), step.byMean = floats(a[2]), step.byVariance = floats(a[3]);
        step.priorMean = floats(a[4]), step.priorLogScale = floats(a[5]);
        step.share = static_cast<float>(f.share), step.low = static_cast<float>(f.low), step.high = static_cast<float>(f.high);
        step.meanOut = made[0].data_ptr<float>(), step.logScaleOut = made[1].data_ptr<float>();
        for (int index = 0; index < 4; ++index) {
            step.moments[index] = floats(a[static_cast<size_t>(6 + index)]);
            step.momentsOut[index] = made[2 + index].data_ptr<float>();
        }
        kernels().factorisedAdam(rates(adam), step, a[0].numel());
        for (int index = 0; index < 6; ++index) out[index] = wrap(made[index]);
        return 0;
    });
}

int32_t ct_newton_step(const ct_newton *newton, const ct_drawn *drawn, uint64_t high, uint64_t low, ct_tensor *out) {
    return attempt<int32_t>(-1, [&] {
        const auto a = alike(
            {drawn->draw, drawn->gradient, drawn->mean, drawn->hessian, drawn->momentum, drawn->centre, drawn->damping},
            "draw, gradient, mean, Hessian, momentum, centre, damping");
        at::Tensor made[4];
        for (auto &tensor : made) tensor = at::empty_like(a[0]);
        const auto &n = *newton;
        const NewtonRates rates = {static_cast<float>(n.rate), static_cast<float>(n.beta1), static_cast<float>(1 / n.correction), static_cast<float>(n.gain),
                                   static_cast<float>(n.count), static_cast<float>(n.floor), static_cast<float>(n.longest)};
        kernels().newton(
            rates,
            {floats(a[0]), floats(a[1]), floats(a[2]), floats(a[3]), floats(a[4]), floats(a[5]), floats(a[6]), made[0].data_ptr<float>(),
             made[1].data_ptr<float>(), made[2].data_ptr<float>(), made[3].data_ptr<float>()},
            high, low, a[0].numel());
        for (int index = 0; index < 4; ++index) out[index] = wrap(made[index]);
        return 0;
    });
}

int32_t ct_sparse_adam_step(const ct_adam *adam, const ct_sparse *sparse, ct_tensor *out) {
    return attempt<int32_t>(-1, [&] {
        const auto &f = *sparse;
        const auto a = alike(
            {f.mean, f.log_scale, f.by_mean, f.by_variance, f.mean_first, f.mean_second, f.scale_first, f.scale_second}, "mean, log scale, gradients, moments");
        std::vector<at::Tensor> prior, sites;
        if (f.precision != nullptr) prior = alike({f.mean, f.precision}, "mean, precision");
        if (f.site_precision != nullptr) sites = alike({f.mean, f.site_precision, f.site_precision_mean}, "mean, sites");
        at::Tensor made[6];
        for (auto &tensor : made) tensor = at::empty_like(a[0]);
        SparseStep step = {};
        step.mean = floats(a[0]), step.logScale = floats(a[1]), step.byMean = floats(a[2]), step.byVariance = floats(a[3]);
        if (!prior.empty()) step.precision = floats(prior[1]);
        if (!sites.empty()) step.sitePrecision = floats(sites[1]), step.sitePrecisionMean = floats(sites[2]);
        step.penalty = f.penalty, step.a = static_cast<float>(f.a), step.b = static_cast<float>(f.b);
        step.share = static_cast<float>(f.share), step.weight = static_cast<float>(f.weight);
        step.low = static_cast<float>(f.low), step.high = static_cast<float>(f.high);
        step.meanOut = made[0].data_ptr<float>(), step.logScaleOut = made[1].data_ptr<float>();
        for (int index = 0; index < 4; ++index) {
            step.moments[index] = floats(a[static_cast<size_t>(4 + index)]);
            step.momentsOut[index] = made[2 + index].data_ptr<float>();
        }
        kernels().sparseAdam(rates(adam), step, a[0].numel());
        for (int index = 0; index < 6; ++index) out[index] = wrap(made[index]);
        return 0;
    });
}

ct_tensor ct_variance(ct_tensor logScale, double low, double high) {
    return make([&] {
        const auto a = alike({logScale}, "log scale");
        auto result = at::empty_like(a[0]);
        kernels().variances(result.numel(), floats(a[0]), static_cast<float>(low), static_cast<float>(high), result.data_ptr<float>());
        return result;
    });
}

ct_tensor ct_gaussian_draw(ct_tensor mean, ct_tensor deviation, double scale, uint64_t high, uint64_t low) {
    return make([&] {
        const auto a = alike({mean, deviation}, "mean, deviation");
        auto result = at::empty_like(a[0]);
        kernels().draw(high, low, result.numel(), floats(a[0]), floats(a[1]), static_cast<float>(scale), result.data_ptr<float>());
        return result;
    });
}
}
