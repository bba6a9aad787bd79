"""An ImageNet base on photographs at few pixels: training pictures, distillation, tests."""
