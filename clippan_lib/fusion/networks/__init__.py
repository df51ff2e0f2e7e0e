"""The fusion networks, one file each; `fusion.NETWORKS` names them."""
