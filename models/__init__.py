"""Networks: the split vision transformer, its exits, training, data, and Profiles of what it answers.

May import `codec/` and `protos/`. Torch is imported only by the modules that run or train networks, which
`tests/test_house.py` lists; cards, data, closed-form MACs and Profiles need numpy.
"""
