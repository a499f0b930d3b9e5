// All kernels for one instruction set. Included once for each by Levels.cpp, in a namespace that says `vectorBytes` and `levelName`.
#include "Vector.hpp"
#include "Normals.hpp"
#include "PooledForward.hpp"
#include "PooledBackward.hpp"
#include "Dense.hpp"
#include "Sweeps.hpp"
#include "ResidualNorm.hpp"
#include "Merging.hpp"

static constexpr Kernels table = {
    levelName, false, lanes, normals, packedCount, packWeights, convolve, pool, poolNoisy, patchCount, patchSums, patchSquares, scatter, adam, factorisedAdam, newton,
    sparseAdam, variances, addNoise, draw, placeCount, packDense, dense, channelMoments, normRelu, normReluSums, normReluInput, normMix,
    normMixSums, normMixInput, weightedSum, weightedSumDouble,
};

#undef ACCRUE_INLINE
