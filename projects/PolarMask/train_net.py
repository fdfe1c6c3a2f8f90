"""Train or evaluate PolarMask: ``msnet_d2.train_net``, which finds this project."""

from msnet_d2.train_net import command_line

if __name__ == "__main__":
    command_line()
