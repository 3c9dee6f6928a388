"""How good an answer is: functions of tensors with units and shapes, free of tasks and of batches."""
