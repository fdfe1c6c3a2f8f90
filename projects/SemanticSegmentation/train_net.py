"""Train or evaluate FCN or U-Net: ``msnet train``, which finds this project by itself."""

from msnet_d2.train_net import command_line

if __name__ == "__main__":
    command_line()
