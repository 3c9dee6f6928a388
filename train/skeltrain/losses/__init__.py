"""What is minimised: functions of tensors with units and shapes, free of tasks."""
