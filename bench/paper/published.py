"""What the paper reports: Chen et al., MICRO 2024, arXiv 2409.05227v1. Every number with its place in the paper.

Numbers that stand only as bars in a figure are not here, but for those printed beside the bars.
"""

from __future__ import annotations

# Figure 12, geometric means printed at the bars and named in section V-C. Which of the two bars is Pragmatic's and
# which Bitlet's follows from figure 14, where Bitlet has 1.35 at 32 columns.
SPEEDUP = {
    "sparten": 1.49,
    "ant": 1.52,
    "stripes": 1.0,
    "pragmatic": 1.20,
    "bitlet": 1.33,
    "bitwave": 1.83,
    "conservative": 2.48,
    "moderate": 3.03,
}
SPEEDUP_OVER = {  # section V-C: (accelerator, preset) to the ratio
    ("ant", "conservative"): 1.63,
    ("ant", "moderate"): 1.97,
}
SPEEDUP_OVER_LANES = (1.86, 2.53)  # section V-C: over Pragmatic and Bitlet, conservative to moderate

# Figure 13, geometric means printed at the bars, normalised to SparTen; section V-C gives their ratios.
ENERGY = {
    "sparten": 1.0,
    "ant": 0.45,
    "stripes": 0.57,
    "pragmatic": 0.59,
    "bitlet": 0.63,
    "bitwave": 0.52,
    "conservative": 0.47,
    "moderate": 0.41,
}
ENERGY_OVER_MODERATE = {"stripes": 1.39, "pragmatic": 1.43, "bitlet": 1.54, "bitwave": 1.27, "sparten": 2.44}

# Section V-B: how much smaller than INT8, and top-1 points lost, mean of the seven benchmarks.
SIZE = {"conservative": 1.29, "moderate": 1.66}
LOSS = {"conservative": 0.25, "moderate": 0.45}

# Tables II and III: points lost, effective bits.
TABLE_2 = {("VGG-16", "moderate"): (0.2, 4.32), ("ResNet-50", "moderate"): (0.23, 4.79)}
TABLE_3 = {
    ("ViT-Small", "conservative"): (0.75, 6.33),
    ("ViT-Small", "moderate"): (0.96, 5.19),
    ("ViT-Base", "conservative"): (0.05, 6.25),
    ("ViT-Base", "moderate"): (0.39, 5.07),
}
ANT_LOSS = {"VGG-16": 0.68, "ResNet-50": 0.89}
MICROSCALING_LOSS = {"ViT-Small": 2.49, "ViT-Base": 0.33}

# Section II-B, figure 3: value sparsity below, two's complement bits about, BBS at least.
VALUE_SPARSITY, TWOS_COMPLEMENT, BBS_SPARSITY = 0.05, 0.5, 0.5

# Section V-D, figure 14: Bitlet on BERT-MRPC with 2 and with 32 columns.
BITLET_COLUMNS = {2: 1.63, 32: 1.35}

# Table IV: area in um2 and power in mW of the BitVert PE by sub-group size, without and with the optimizations.
PE_VARIANTS = {
    16: ((1342.3, 0.61), (971.5, 0.53)),
    8: ((896.6, 0.49), (739.6, 0.45)),
    4: ((878.7, 0.51), (786.5, 0.47)),
}

# Table V: area in um2 and power in mW of a PE of 8 bit-serial multipliers, 28 nm, 800 MHz.
PE_AREA = {"stripes": 532.8, "pragmatic": 923.1, "bitlet": 1665.6, "bitwave": 702.4, "bitvert": 739.6}
PE_POWER = {"stripes": 0.37, "pragmatic": 0.51, "bitlet": 0.57, "bitwave": 0.49, "bitvert": 0.45}

# Table VI: the Olive PE for 4-bit weights and 8-bit activations.
OLIVE = {"area": 291.6, "power": 0.18}
OLIVE_PERFORMANCE, OLIVE_PER_AREA = 4.0, 1.58  # BitVert (moderate) over it
LLM_BITS = {"conservative": 6.25, "moderate": 4.25}

# What came after BitVert, from the abstracts: (machine, what it is compared with) to the speed-up.
SUCCESSORS = {
    ("Transitive Array", "BitVert"): 3.97,  # arXiv 2504.16339, LLaMA
    ("Transitive Array", "Olive"): 7.46,
    ("BitMoD", "ANT"): 1.69,  # arXiv 2411.11745, six language models, float16 activations
    ("BitMoD", "Olive"): 1.48,
    ("MCBP", "A100"): 9.43,  # arXiv 2509.10372, 26 language benchmarks
}
