"""Dense bfloat16 peaks of known GPUs, from the manufacturer's datasheets.

Datasheets often print the figure with sparsity, which is twice the dense one. A card of another power limit or form
factor has another peak, so each name is one that `torch.cuda.get_device_name` returns.
"""

BF16_TFLOPS = {
    # name: (dense bf16 TFLOP/s with float32 accumulation, source)
    "NVIDIA A100-SXM4-40GB": (312.0, "NVIDIA A100 datasheet"),
    "NVIDIA A100-SXM4-80GB": (312.0, "NVIDIA A100 datasheet"),
    "NVIDIA A100-PCIE-40GB": (312.0, "NVIDIA A100 datasheet"),
    "NVIDIA A100 80GB PCIe": (312.0, "NVIDIA A100 datasheet"),
    "NVIDIA A10": (125.0, "NVIDIA A10 datasheet"),
    "NVIDIA L4": (121.0, "NVIDIA L4 datasheet: 242 with sparsity"),
    "NVIDIA L40": (181.05, "NVIDIA L40 datasheet"),
    "NVIDIA L40S": (362.05, "NVIDIA L40S datasheet"),
    "NVIDIA H100 80GB HBM3": (989.4, "NVIDIA H100 Tensor Core GPU architecture, H100 SXM5"),
    "NVIDIA H100 PCIe": (756.0, "NVIDIA H100 Tensor Core GPU architecture, H100 PCIe"),
    "NVIDIA H200": (989.5, "NVIDIA H200 datasheet, SXM: 1,979 with sparsity"),
    "NVIDIA GeForce RTX 3090": (71.0, "NVIDIA Ampere GA102 architecture"),
    "NVIDIA GeForce RTX 4090": (165.2, "NVIDIA Ada GPU architecture"),
}


def bf16_peak(name: str) -> tuple[float, str] | None:
    """Return the dense bf16 peak of the card `name` in TFLOP/s and its source, or None for an unknown card."""
    return BF16_TFLOPS.get(name)
