# A regular package. Otherwise the tests of a detectron2 checkout on PYTHONPATH would shadow this
# one in processes that the tests spawn.
