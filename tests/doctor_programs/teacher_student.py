"""Distill a wide classifier into a narrow one with soft targets."""

import sys

import torch
from torch import nn
from torch.nn import functional as F

FIXED = "--fixed" in sys.argv

torch.manual_seed(0)
torch.set_num_threads(1)

FEATURES, CLASSES, TEMPERATURE = 20, 6, 2.0
centers = 1.1 * torch.randn(CLASSES, 2, FEATURES)


def make_data(count):
    labels = torch.randint(CLASSES, (count,))
    cluster = torch.randint(2, (count,))
    return centers[labels, cluster] + 1.6 * torch.randn(count, FEATURES), labels


def network(width):
    return nn.Sequential(
        nn.Linear(FEATURES, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, CLASSES)
    )


train_x, train_y = make_data(6000)
test_x, test_y = make_data(1000)


def batches(epochs, size=100):
    for _ in range(epochs):
        for rows in torch.randperm(len(train_x)).split(size):
            yield train_x[rows], train_y[rows]


def report(name, model):
    with torch.no_grad():
        logits = model(test_x)
    accuracy = (logits.argmax(1) == test_y).float().mean().item()
    print(f"{name}: test accuracy {accuracy:.3f}, test cross entropy {F.cross_entropy(logits, test_y).item():.3f}")


teacher = network(128)
optimizer = torch.optim.Adam(teacher.parameters(), lr=1e-3)
for step, (x, y) in enumerate(batches(3)):
    loss = F.cross_entropy(teacher(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 30 == 0:
        print(f"teacher step {step:3d}  loss {loss.item():.4f}")
teacher.eval()
report("teacher", teacher)

student = network(24)
optimizer = torch.optim.Adam(student.parameters(), lr=3e-3)
for step, (x, _) in enumerate(batches(4)):
    with torch.no_grad():
        soft_targets = F.softmax(teacher(x) / TEMPERATURE, dim=1)
    logits = student(x) / TEMPERATURE
    prediction = F.log_softmax(logits, dim=1) if FIXED else F.softmax(logits, dim=1)
    loss = F.kl_div(prediction, soft_targets, reduction="batchmean") * TEMPERATURE**2
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 30 == 0:
        print(f"student step {step:3d}  loss {loss.item():.4f}")
student.eval()
report("student", student)
