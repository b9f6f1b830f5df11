//! The same sum with 256-bit (AVX2) or 128-bit (NEON) registers, chosen when the program runs.

/// Sum of native-endian 32-bit words by the fastest way this processor has.
pub fn words(data: &[u8]) -> u64 {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has AVX2, as was just asked (the answer is cached by the standard library).
        return unsafe { avx2::words(data) };
    }
    #[cfg(target_arch = "aarch64")]
    if std::arch::is_aarch64_feature_detected!("neon") {
        // SAFETY: the processor has NEON, as was just asked (the answer is cached by the standard library).
        return unsafe { neon::words(data) };
    }
    super::portable(data)
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use crate::wire::checksum::{add, short};
    use std::arch::x86_64::*;

    /// Each 64-bit lane of an accumulator takes less than 2^32 a step, so that four of them together hold 2^30 steps: 64 GiB.
    #[target_feature(enable = "avx2")]
    pub fn words(data: &[u8]) -> u64 {
        let low = _mm256_set1_epi64x(0xffff_ffff);
        let mut sums = [_mm256_setzero_si256(); 4];
        let (blocks, rest) = data.as_chunks::<64>();
        for block in blocks {
            let [first, second] = block.as_chunks::<32>().0 else { break };
            // SAFETY: each half is 32 readable bytes, and loadu needs no alignment.
            let (a, b) = unsafe { (_mm256_loadu_si256(first.as_ptr().cast()), _mm256_loadu_si256(second.as_ptr().cast())) };
            sums[0] = _mm256_add_epi64(sums[0], _mm256_and_si256(a, low));
            sums[1] = _mm256_add_epi64(sums[1], _mm256_srli_epi64::<32>(a));
            sums[2] = _mm256_add_epi64(sums[2], _mm256_and_si256(b, low));
            sums[3] = _mm256_add_epi64(sums[3], _mm256_srli_epi64::<32>(b));
        }
        let sum = _mm256_add_epi64(_mm256_add_epi64(sums[0], sums[1]), _mm256_add_epi64(sums[2], sums[3]));
        let mut lanes = [0u64; 4];
        // SAFETY: `lanes` is 32 writable bytes, and storeu needs no alignment.
        unsafe { _mm256_storeu_si256(lanes.as_mut_ptr().cast(), sum) };
        lanes.iter().fold(short(rest), |total, lane| add(total, *lane))
    }
}

#[cfg(target_arch = "aarch64")]
mod neon {
    use crate::wire::checksum::{add, short};
    use std::arch::aarch64::*;

    /// Each step adds two 32-bit words to a 64-bit lane, so it holds 2^31 steps.
    #[target_feature(enable = "neon")]
    pub fn words(data: &[u8]) -> u64 {
        let mut sums = [vdupq_n_u64(0); 4];
        let (blocks, rest) = data.as_chunks::<64>();
        for block in blocks {
            for (sum, part) in sums.iter_mut().zip(block.as_chunks::<16>().0) {
                // SAFETY: a part is 16 readable bytes, and a vector of bytes needs no alignment.
                let bytes = unsafe { vld1q_u8(part.as_ptr()) };
                *sum = vpadalq_u32(*sum, vreinterpretq_u32_u8(bytes));
            }
        }
        sums.iter().fold(short(rest), |total, sum| add(add(total, vgetq_lane_u64::<0>(*sum)), vgetq_lane_u64::<1>(*sum)))
    }
}
